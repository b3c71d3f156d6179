"""A model of sentence-transformers made into one that OpenVINO runs, without a network."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedfleet_workers.embedders.openvino_engine import openvino
from embedfleet_workers.embedders.protocol import Rows
from embedfleet_workers.embedders.tokens import TokenizerTraits, Tokens
from embedfleet_workers.embedding_errors import NotConvertible

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer


@dataclass(frozen=True, slots=True)
class Converted:
    """A model for OpenVINO, and what else it takes to use it and to check it."""

    model: object
    """The path of its file, or OpenVINO's own object."""
    traits: TokenizerTraits
    expected: Rows
    """The vectors of the probe texts by plain sentence-transformers, in float32."""


def convert(model: SentenceTransformer, traits: TokenizerTraits, expected: Rows) -> Converted:
    """All modules of a model that is in float32 on the CPU: from tokens to the vector of a text.

    Raises:
        NotConvertible: it does something that OpenVINO cannot follow.
    """
    import torch

    tokens = Tokens(traits)
    # What an axis of length one stands for, a trace does not tell.
    features = tokens.features(tokens.encode(["two", "texts of other lengths"]))
    example = tuple(torch.from_numpy(values) for values in features.values())
    try:
        with _quiet(), torch.no_grad():
            whole = _whole(model, list(features))
            converted = openvino().convert_model(whole, example_input=example)
    except Exception as error:
        first, *_ = str(error).strip().splitlines() or [type(error).__name__]
        raise NotConvertible(reason=first) from error
    for port, name in zip(converted.inputs, features, strict=True):
        port.get_tensor().set_names({name})
    return Converted(converted, traits, expected)


def _whole(model: SentenceTransformer, names: list[str]) -> torch.nn.Module:
    import torch

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            given = dict(zip(names, inputs, strict=True))
            answer: dict[str, torch.Tensor] = self.model({**given, "modality": "text"})
            return answer["sentence_embedding"]

    return Whole().eval()


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what tracing says about itself: whether it went well, the probe texts tell."""
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
