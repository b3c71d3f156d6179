"""What a package subclasses to bring an embedder of its own, and how workers load it."""

from __future__ import annotations

import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embedfleet_schema.catalogue.plugins import (
    ESTIMATED_TOKEN,
    ModelDescription,
    describe,
    plugin_class,
)
from embedfleet_schema.errors import EmbedfleetError, ModelRefused
from embedfleet_schema.plugin_errors import PluginBroken
from embedfleet_schema.types import Kind, Space
from embedfleet_workers.embedders.checks import checked, no_vectors
from embedfleet_workers.embedders.protocol import Vectors
from embedfleet_workers.embedding_errors import EmbeddingError, InputAtFault

_TOKEN = re.compile(ESTIMATED_TOKEN)


class PluginEmbedder(ABC):
    """The embedder of one space of a provider that another package brings.

    A subclass writes `describe` and `vectors`, and `load` and `close` where it holds something.
    Where `at_once` is true, several threads may be inside `vectors` together.
    """

    at_once = False

    @classmethod
    @abstractmethod
    def describe(cls, model: str, dimensions: int | None) -> ModelDescription:
        """What the vectors of a model are, without loading it. `dimensions` are those that somebody
        asks for, and None where nobody does.

        Raises:
            LookupError: there is no such model; its text says which there are.
        """

    @final
    def __init__(self, space: Space, device: str = "cpu", threads: int | None = None) -> None:
        self.space = space
        self.max_tokens = space.max_tokens
        self.device = device
        self.threads = threads
        self._turn: AbstractContextManager[object] = (
            nullcontext() if self.at_once else threading.Lock()
        )
        self._closed = False
        self.load()

    def load(self) -> None:
        """Read weights to `self.device`, or open a client: once, before the first text."""
        return

    @abstractmethod
    def vectors(self, texts: list[str], kind: Kind) -> ArrayLike:
        """The vectors of one text or more, prompts included, in their order.

        Returns:
            Floats of shape (len(texts), self.space.dimensions). They need not be of unit length.

        Raises:
            InputAtFault: one of the texts cannot be embedded.
            EmbedderBusy: nothing is wrong, but it has to wait.
        """

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, by the rule for models that name no tokenizer."""
        return [len(_TOKEN.findall(text)) for text in texts]

    @final
    def embed(self, texts: Sequence[str], kind: Kind) -> Vectors:
        if self._closed:
            raise EmbeddingError(reason=f"{self.space.name} is closed")
        if not texts:
            return no_vectors(self.space)
        prompt = self.space.query_prompt if kind == "query" else self.space.document_prompt
        given = [prompt + _unicode(text) for text in texts]
        with self._turn:
            made = np.asarray(self.vectors(given, kind))
        if self.space.normalized and made.ndim == 2 and np.issubdtype(made.dtype, np.floating):  # noqa: PLR2004
            made = _of_unit_length(made)
        return checked(made, len(texts), self.space)

    def close(self) -> None:
        """Give back what `load` took. A subclass that overrides it calls it, too."""
        self._closed = True


def load_plugin(space: Space, device: str, threads: int | None) -> PluginEmbedder:
    """The embedder of a space that another package brings.

    Raises:
        PluginMissing, PluginBroken: it is not there, or cannot be used.
        ModelRefused: its model is another one by now.
    """
    found = plugin_class(space.provider, space.model)
    if not issubclass(found, PluginEmbedder):
        raise _broken(space, found, f"{found.__name__} is no subclass of PluginEmbedder")
    said = describe(space.provider, space.model, space.dimensions)
    other = [
        f"{name} {getattr(said, name)!r}, not {getattr(space, name)!r}"
        for name in ("dimensions", "revision", "normalized")
        if getattr(said, name) != getattr(space, name)
    ]
    if said.max_tokens < space.max_tokens:
        other.append(f"max_tokens {said.max_tokens}, not {space.max_tokens}")
    if other:
        reason = f"the package installed here gives it {', '.join(other)}"
        raise ModelRefused(model=space.name, reason=reason)
    try:
        made: PluginEmbedder = found(space, device, threads)
    except (EmbedfleetError, MemoryError):
        raise
    except Exception as error:
        reason = f"it does not load ({type(error).__name__}: {error})"
        raise _broken(space, found, reason) from error
    return made


def _broken(space: Space, found: type, reason: str) -> PluginBroken:
    package = found.__module__.partition(".")[0]
    return PluginBroken(model=space.name, provider=space.provider, package=package, reason=reason)


def _unicode(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputAtFault(reason=f"it is not Unicode text: {error.reason}") from error
    return text


def _of_unit_length(rows: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Rows divided by their lengths; what has no length stays, and is refused by name."""
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        lengths[~np.isfinite(lengths) | (lengths == 0)] = 1
        scaled: NDArray[np.floating[Any]] = rows / lengths
    return scaled
