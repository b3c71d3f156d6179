"""Two ways through a sentence-transformers model: packed by tokens, and plainly by its encode()."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from embedfleet_schema.types import EngineName, Kind, Precision, Space
from embedfleet_workers import signals
from embedfleet_workers.cores import cores
from embedfleet_workers.embedders.engine import Engine, OutOfMemory
from embedfleet_workers.embedders.packing import TokenBudget, pack_by_length
from embedfleet_workers.embedders.protocol import Rows
from embedfleet_workers.embedders.tokens import Features, Tokens, encoded
from embedfleet_workers.embedders.torch_engine import as_numpy, precision_of, use_cores

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

# More are not quicker, and a pass over so many texts of 512 tokens takes some megabytes.
STATIC_TEXTS = 1_024


class Forward(Protocol):
    """A way to run a model."""

    engine: EngineName
    precision: Precision

    def __call__(self, texts: Sequence[str], kind: Kind) -> Rows:
        """Vectors of the texts in their order, not yet checked."""
        ...

    def count(self, texts: Sequence[str]) -> list[int]: ...

    def unread_share(self, text: str) -> float:
        """How much of a text the tokenizer does not know, from 0 to 1; 0 where it cannot tell."""
        ...

    def close(self) -> None: ...


class PackedForward:
    """Tokenizes all texts at once and runs packs of similar length, several at a time.

    The caller's thread tokenizes and prepares the packs; threads of its own run the engine. One
    more runs a pack of queries beside those: who asks does not wait for a whole batch.
    """

    def __init__(
        self, engine: Engine, tokens: Tokens, space: Space, padded_tokens: int | None = None
    ) -> None:
        self.engine = engine.name
        self.precision = engine.precision
        self.budget = TokenBudget(padded_tokens or engine.padded_tokens)
        self._engine = engine
        self._tokens = tokens
        self._space = space
        self._pool = ThreadPoolExecutor(
            engine.streams, "embedfleet-forward", initializer=engine.bind
        )
        self._aside = ThreadPoolExecutor(1, "embedfleet-query", initializer=engine.bind)

    def __call__(self, texts: Sequence[str], kind: Kind) -> Rows:
        prompt = prompt_of(self._space, kind)
        encodings = self._tokens.encode([prompt + text for text in texts] if prompt else texts)
        lengths = [len(encoding) for encoding in encodings]
        packs = pack_by_length(lengths, self.budget.tokens, self._engine.streams)
        vectors = np.empty((len(texts), self._space.dimensions), dtype=np.float32)
        pool = self._aside if kind == "query" and len(packs) == 1 else self._pool
        running = [
            pool.submit(self._run, self._tokens.features([encodings[row] for row in pack]))
            for pack in packs
        ]
        try:
            for pack, answer in zip(packs, running, strict=True):
                vectors[pack] = answer.result()
        finally:
            for answer in running:
                answer.cancel()
        return vectors

    def count(self, texts: Sequence[str]) -> list[int]:
        return self._tokens.count(texts)

    def unread_share(self, text: str) -> float:
        return self._tokens.unread_share(text)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._aside.shutdown(cancel_futures=True)

    def _run(self, features: Features) -> Rows:
        """One pack through the engine; where memory runs out, in two halves."""
        try:
            with self._passing(features):
                vectors = self._engine.run(features)
        except OutOfMemory:
            rows = len(features["input_ids"])
            if rows == 1:
                raise
        else:
            self.budget.grow()
            return vectors
        self.budget.shrink()
        halves = (slice(rows // 2), slice(rows // 2, rows))
        return np.concatenate(
            [self._run({name: f[half] for name, f in features.items()}) for half in halves]
        )

    @contextmanager
    def _passing(self, features: Features) -> Iterator[None]:
        signals.pass_began.send(None)
        ended = signals.ModelPass(self._space.name)
        try:
            yield
            tokens = int(features["attention_mask"].sum())
            padding = features["input_ids"].size - tokens
            ended = signals.ModelPass(self._space.name, tokens, padding)
        finally:
            signals.pass_ended.send(ended)


class PlainForward:
    """The model's own encode(), one call at a time: works for whatever it can load."""

    engine: EngineName = "torch"

    def __init__(self, model: SentenceTransformer, space: Space, threads: int | None) -> None:
        self.precision = precision_of(model)
        self._model = model
        self._space = space
        self._pool = ThreadPoolExecutor(
            1, "embedfleet-encode", initializer=use_cores, initargs=(threads or cores(),)
        )

    def __call__(self, texts: Sequence[str], kind: Kind) -> Rows:
        return self._pool.submit(self._encode_seen, list(texts), kind).result()

    def count(self, texts: Sequence[str]) -> list[int]:
        return self._pool.submit(self._count, list(texts)).result()

    def unread_share(self, text: str) -> float:  # noqa: ARG002 - other ways can tell
        return 0.0

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _encode_seen(self, texts: list[str], kind: Kind) -> Rows:
        signals.pass_began.send(None)
        try:
            return self._encode(texts, kind)
        finally:
            signals.pass_ended.send(signals.ModelPass(self._space.name))

    def _encode(self, texts: list[str], kind: Kind) -> Rows:
        encode = self._model.encode_query if kind == "query" else self._model.encode_document
        prompt = prompt_of(self._space, kind)
        vectors = encode(texts, prompt=prompt, show_progress_bar=False, convert_to_tensor=True)
        return as_numpy(vectors, self._space)

    def _count(self, texts: list[str]) -> list[int]:
        from tokenizers import Tokenizer

        tokenizer = self._model.tokenizer
        if isinstance(tokenizer, Tokenizer):
            return [len(e) for e in tokenizer.encode_batch(texts, add_special_tokens=False)]
        return [len(ids) for ids in tokenizer(texts, verbose=False)["input_ids"]]


class StaticForward(PlainForward):
    """A table of token vectors, looked up for many texts at once: encode() takes 32 at a time, and
    most of its time is spent between them.
    """

    def _encode(self, texts: list[str], kind: Kind) -> Rows:
        prompt = prompt_of(self._space, kind)
        starts = range(0, len(texts), STATIC_TEXTS)
        parts = [self._looked_up(texts[n : n + STATIC_TEXTS], prompt) for n in starts]
        return np.concatenate(parts)

    def _looked_up(self, texts: list[str], prompt: str) -> Rows:
        import torch

        with torch.inference_mode():
            features = self._features([prompt + text for text in texts] if prompt else texts)
            return as_numpy(self._model(features)["sentence_embedding"], self._space)

    def _features(self, texts: list[str]) -> dict[str, Any]:
        """As the module's own `preprocess`, which also asks for offsets into the texts and makes
        a Python list of all tokens.
        """
        import torch

        rows = [e.ids for e in encoded(self._model.tokenizer, texts, add_special_tokens=False)]
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        ids = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=int(lengths.sum()))
        offsets = np.cumsum(lengths) - lengths
        device = self._model.device
        return {
            "modality": "text",
            "input_ids": torch.from_numpy(ids).to(device),
            "offsets": torch.from_numpy(offsets).to(device),
        }


def prompt_of(space: Space, kind: Kind) -> str:
    return space.query_prompt if kind == "query" else space.document_prompt


def packable(model: SentenceTransformer, space: Space) -> bool:
    """Whether the model reads what `Tokens` prepares: one fast tokenizer, one transformer.

    Chat templates, query expansion, routers, static embeddings, and pooling that leaves the
    prompt out go through encode().
    """
    from sentence_transformers.base.modules import Transformer

    first: Any = model[0]
    if type(first) is not Transformer or first.modality_config.keys() != {"text"}:
        return False
    special = (
        first.processing_kwargs,
        first.query_expansion,
        first.query_length,
        first.document_length,
    )
    return (
        first.modality_config["text"]["method"] == "forward"
        and bool(getattr(first.tokenizer, "is_fast", False))
        and not any(special)
        and (_pools_prompt(model) or not (space.document_prompt or space.query_prompt))
    )


def _pools_prompt(modules: Iterable[object]) -> bool:
    return all(getattr(module, "include_prompt", True) for module in modules)
