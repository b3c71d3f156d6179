"""A cross-encoder on this machine, by sentence-transformers."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embedfleet_schema.catalogue.model_files import find_model
from embedfleet_schema.errors import ExtraMissing, ModelNotFound, ModelRefused
from embedfleet_workers.embedders.loading import only_shown, quiet
from embedfleet_workers.embedding_errors import RerankFailed

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

# Weights that transformers draws at random because the files lack them: an embedding model has no
# head, and its scores would be noise.
_DRAWN = re.compile(r"^(\S+)\s*\|\s*(?:\x1b\[[\d;]*m)*(?:MISSING|MISMATCH)", re.MULTILINE)
_PAIRS_AT_ONCE = 32


class LocalReranker:
    """A model that gives one score for a pair of texts, in float32; safetensors only, no code.

    Raises:
        ExtraMissing, ModelNotFound: it cannot be loaded.
        ModelRefused: it lacks weights, or is no reranker.
    """

    def __init__(self, model: str, device: str = "cpu") -> None:
        self._name = model
        self._model = _loaded(model, find_model(model), device)
        self._turn = threading.Lock()

    def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        if not texts:
            return []
        pairs = [(query, text) for text in texts]
        try:
            with self._turn:
                made = self._model.predict(
                    pairs, batch_size=_PAIRS_AT_ONCE, show_progress_bar=False
                )
        except (RuntimeError, UnicodeEncodeError, TypeError) as error:
            raise RerankFailed(model=self._name, reason=type(error).__name__) from error
        found = np.asarray(made, dtype=np.float64)
        if not np.isfinite(found).all():
            raise RerankFailed(model=self._name, reason="a score is not finite")
        return [float(score) for score in found]

    def close(self) -> None:
        """Its memory goes with the last reference."""


def _loaded(model: str, directory: Path, device: str) -> CrossEncoder:
    try:
        import torch
        from safetensors import SafetensorError
        from sentence_transformers import CrossEncoder
    except ModuleNotFoundError as error:
        raise ExtraMissing(feature=f"The reranker {model}", extra="local") from error
    try:
        with only_shown(model, directory) as folder, quiet() as reports:
            made: CrossEncoder = CrossEncoder(
                str(folder),
                device=device,
                trust_remote_code=False,
                local_files_only=True,
                # What comes out of the head, whatever its files say: a sigmoid makes equals of the
                # best, and a name in a file is code that would run.
                activation_fn=torch.nn.Identity(),
                model_kwargs={"use_safetensors": True, "dtype": torch.float32},
            )
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
        raise ModelNotFound(model=model, reason=f"{directory}: {error}") from error
    if drawn := _DRAWN.findall("\n".join(reports)):
        reason = f"{directory} lacks weights of a reranker ({', '.join(drawn[:3])})"
        raise ModelRefused(model=model, reason=reason)
    if made.num_labels != 1:
        reason = f"it gives {made.num_labels} scores for a pair of texts, and a reranker gives one"
        raise ModelRefused(model=model, reason=reason)
    torch.nn.Module.eval(made)
    return made
