"""Two ways through a sentence-transformers model: packed by tokens, and plainly by its encode()."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from embedfleet_schema.types import Kind, Space
from embedfleet_workers.cores import cores
from embedfleet_workers.embedders.packing import TokenBudget, pack_by_length
from embedfleet_workers.embedders.protocol import Rows
from embedfleet_workers.embedders.tokens import Features, Tokens

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

# Measured on two Zen 3 cores with a 22M-parameter model: 512 to 1,536 are within 5%.
CPU_PADDED_TOKENS = 768
CUDA_PADDED_TOKENS = 65_536


class Forward(Protocol):
    """A way to run a model."""

    def __call__(self, texts: Sequence[str], kind: Kind) -> Rows:
        """Vectors of the texts in their order, not yet checked."""
        ...

    def count(self, texts: Sequence[str]) -> list[int]: ...

    def close(self) -> None: ...


class PackedForward:
    """Tokenizes all texts at once and runs packs of similar length, several at a time.

    The caller's thread tokenizes and prepares the packs; threads of its own run the model. On a
    CPU each of those is bound to one core: two of them beat one that uses two cores by about a
    tenth. A CUDA device has one, which thereby is the lock of the device.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        tokens: Tokens,
        space: Space,
        threads: int | None,
        padded_tokens: int | None,
    ) -> None:
        on_cuda = model.device.type == "cuda"
        self.budget = TokenBudget(
            padded_tokens or (CUDA_PADDED_TOKENS if on_cuda else CPU_PADDED_TOKENS)
        )
        self._model = model
        self._tokens = tokens
        self._space = space
        self._streams = (threads or cores()) if model.device.type == "cpu" else 1
        self._pool = _single_core_pool(self._streams)

    def __call__(self, texts: Sequence[str], kind: Kind) -> Rows:
        prompt = prompt_of(self._space, kind)
        encodings = self._tokens.encode([prompt + text for text in texts] if prompt else texts)
        packs = pack_by_length([len(e) for e in encodings], self.budget.tokens, self._streams)
        vectors = np.empty((len(texts), self._space.dimensions), dtype=np.float32)
        running = [
            self._pool.submit(self._run, self._tokens.features([encodings[row] for row in pack]))
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

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _run(self, features: Features) -> Rows:
        """One pack through the model; where memory runs out, in two halves."""
        import torch

        try:
            vectors = self._forward(features)
        except torch.OutOfMemoryError:
            rows = len(features["input_ids"])
            if rows == 1:
                raise
        else:
            self.budget.grow()
            return vectors
        # Outside the handler: the error's traceback keeps the tensors of the failed pass alive.
        self.budget.shrink()
        torch.cuda.empty_cache()
        halves = (slice(rows // 2), slice(rows // 2, rows))
        return np.concatenate(
            [self._run({name: f[half] for name, f in features.items()}) for half in halves]
        )

    def _forward(self, features: Features) -> Rows:
        import torch

        inputs: dict[str, object] = {"modality": "text"}
        with torch.inference_mode():
            for name, values in features.items():
                inputs[name] = torch.from_numpy(values).to(self._model.device)
            return _as_numpy(self._model(inputs)["sentence_embedding"], self._space)


class PlainForward:
    """The model's own encode(), one call at a time: works for whatever it can load."""

    def __init__(self, model: SentenceTransformer, space: Space, threads: int | None) -> None:
        self._model = model
        self._space = space
        self._pool = ThreadPoolExecutor(
            1, "embedfleet-encode", initializer=_use_cores, initargs=(threads or cores(),)
        )

    def __call__(self, texts: Sequence[str], kind: Kind) -> Rows:
        return self._pool.submit(self._encode, list(texts), kind).result()

    def count(self, texts: Sequence[str]) -> list[int]:
        return self._pool.submit(self._count, list(texts)).result()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _encode(self, texts: list[str], kind: Kind) -> Rows:
        encode = self._model.encode_query if kind == "query" else self._model.encode_document
        prompt = prompt_of(self._space, kind)
        vectors = encode(texts, prompt=prompt, show_progress_bar=False, convert_to_tensor=True)
        return _as_numpy(vectors, self._space)

    def _count(self, texts: list[str]) -> list[int]:
        from tokenizers import Tokenizer

        tokenizer = self._model.tokenizer
        if isinstance(tokenizer, Tokenizer):
            return [len(e) for e in tokenizer.encode_batch(texts, add_special_tokens=False)]
        return [len(ids) for ids in tokenizer(texts, verbose=False)["input_ids"]]


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


def _as_numpy(vectors: torch.Tensor, space: Space) -> Rows:
    """float32 on the host. Half precision leaves lengths a little off 1, so they are set again."""
    import torch

    with torch.inference_mode():
        single = vectors.float()
        if space.normalized and vectors.dtype != torch.float32:
            single = torch.nn.functional.normalize(single, dim=1)
        matrix: Rows = single.cpu().numpy()
        return matrix


def _single_core_pool(streams: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(streams, "embedfleet-forward", initializer=_use_cores, initargs=(1,))


def _use_cores(count: int) -> None:
    """Bind the calling thread's PyTorch operations to so many cores."""
    import torch

    torch.set_num_threads(count)
