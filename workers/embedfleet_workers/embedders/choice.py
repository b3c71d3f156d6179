"""Which engine runs a local model, and in which precision: what is asked for, and what passes."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embedfleet_schema.catalogue.model_files import read_modules
from embedfleet_schema.errors import ExtraMissing, ModelRefused
from embedfleet_schema.types import EngineName, Precision, Space
from embedfleet_workers.cores import cpu_flags
from embedfleet_workers.embedders.checks import checked
from embedfleet_workers.embedders.conversion import Converted, convert
from embedfleet_workers.embedders.converted_models import kept, name_of
from embedfleet_workers.embedders.engine import Wanted
from embedfleet_workers.embedders.forward import (
    Forward,
    PackedForward,
    PlainForward,
    StaticForward,
    packable,
)
from embedfleet_workers.embedders.loading import load_model
from embedfleet_workers.embedders.openvino_engine import OpenVinoEngine, is_installed
from embedfleet_workers.embedders.probes import SAME, agreement, probe_texts
from embedfleet_workers.embedders.protocol import Vectors
from embedfleet_workers.embedders.tokens import Tokens, traits_of
from embedfleet_workers.embedders.torch_engine import TorchEngine
from embedfleet_workers.embedding_errors import BadAnswer, NotConvertible

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_log = logging.getLogger(__name__)

# In half precision on a GPU, where both sides are rounded.
_SAME_ON_GPU = 0.999
# OpenVINO's own measure of whether bfloat16 is worth it.
_BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16"})


def chosen_forward(
    space: Space, directory: Path, device: str, threads: int | None, wanted: Wanted
) -> Forward:
    """The quickest way through a model that gives the vectors of plain sentence-transformers.

    Raises:
        ExtraMissing: OpenVINO is asked for and not installed.
        ModelRefused: the model does not make the vectors that the space describes.
        What `load_model` raises.
    """
    half = device.startswith("cuda") and wanted.precision != "float32"

    @cache
    def model() -> SentenceTransformer:
        return load_model(space, directory, device, half=half)

    forward = None
    is_static = _is_static(space, directory)
    # In a table of token vectors there is nothing for OpenVINO to run.
    if device == "cpu" and not is_static and _takes_openvino(wanted):
        forward = _openvino_forward(space, model, threads, wanted)
    if forward is None:
        forward = _torch_forward(model(), space, threads, wanted.padded_tokens, is_static=is_static)
    if forward.precision == "float32" and wanted.precision == "half":
        _log.warning("%s runs in float32: half needs a GPU, or OpenVINO and bfloat16", space.name)
    return forward


def expected(wanted: Wanted) -> tuple[EngineName, Precision]:
    """What a CPU runs a model with, if it gives the right vectors there.

    Raises:
        ExtraMissing: OpenVINO is asked for and not installed.
    """
    if not _takes_openvino(wanted):
        return "torch", "float32"
    return "openvino", "half" if wanted.precision != "float32" and _has_half() else "float32"


def _has_half() -> bool:
    return bool(_BFLOAT16 & cpu_flags())


def _takes_openvino(wanted: Wanted) -> bool:
    if wanted.engine == "openvino" and not is_installed():
        raise ExtraMissing(feature="The engine openvino", extra="local")
    # Nobody has measured it on other makes of CPU.
    worth_it = is_installed() and platform.machine() in {"x86_64", "AMD64"}
    return wanted.engine == "openvino" or (wanted.engine == "auto" and worth_it)


def _openvino_forward(
    space: Space, model: Callable[[], SentenceTransformer], threads: int | None, wanted: Wanted
) -> Forward | None:
    folder = wanted.converted if wanted.revision else None
    try:
        name = name_of(space, wanted.revision)
        found = kept(folder, name, lambda: _converted(model(), space, threads))
    except NotConvertible as error:
        _log.warning("%s runs with PyTorch: %s", space.name, error)
        return None
    probes = probe_texts(space.max_tokens)
    _, first = expected(wanted)
    for precision in dict.fromkeys((first, "float32")):
        try:
            engine = OpenVinoEngine(found.model, space, threads, precision)
            forward = PackedForward(engine, Tokens(found.traits), space, wanted.padded_tokens)
            least = agreement(found.expected, forward(probes, "document")).min()
        except RuntimeError as error:
            _log.warning("%s runs with PyTorch: OpenVINO does not run it: %s", space.name, error)
            return None
        if least >= SAME[precision]:
            return forward
        forward.close()
        _log.warning(
            "%s is not used in %s with OpenVINO: cosine %.6f to PyTorch, needed %s",
            *(space.name, precision, least, SAME[precision]),
        )
    return None


def _converted(model: SentenceTransformer, space: Space, threads: int | None) -> Converted:
    if not packable(model, space):
        raise NotConvertible(reason="it goes through encode()")
    plain = PlainForward(model, space, threads)
    try:
        expected = _one_by_one(plain, space)
    finally:
        plain.close()
    return convert(model, traits_of(model.tokenizer, space.max_tokens), expected)


def _is_static(space: Space, directory: Path) -> bool:
    """Whether the model is a table of token vectors, without a transformer."""
    return any(each.kind == "StaticEmbedding" for each in read_modules(space.name, directory)[:1])


def _torch_forward(
    model: SentenceTransformer,
    space: Space,
    threads: int | None,
    padded_tokens: int | None,
    *,
    is_static: bool,
) -> Forward:
    plain = PlainForward(model, space, threads)
    expected = _one_by_one(plain, space)
    enough = SAME["float32"] if plain.precision == "float32" else _SAME_ON_GPU

    def is_same(forward: Forward) -> bool:
        return bool((agreement(expected, _probed(forward, space)) >= enough).all())

    quicker: Forward | None = None
    if is_static:
        quicker = StaticForward(model, space, threads)
    elif packable(model, space):
        tokens = Tokens(traits_of(model.tokenizer, space.max_tokens))
        quicker = PackedForward(TorchEngine(model, space, threads), tokens, space, padded_tokens)
    if quicker is not None:
        if is_same(quicker):
            plain.close()
            return quicker
        quicker.close()
        _log.warning("%s gives other vectors on the quicker way: using encode()", space.name)
    if not is_same(plain):
        reason = "a text's vector depends on the texts that it is batched with"
        raise ModelRefused(model=space.name, reason=reason)
    return plain


def _one_by_one(plain: Forward, space: Space) -> Vectors:
    vectors = [_checked(plain, space, [text]) for text in probe_texts(space.max_tokens)]
    return Vectors(np.concatenate(vectors))


def _probed(forward: Forward, space: Space) -> Vectors:
    return _checked(forward, space, probe_texts(space.max_tokens))


def _checked(forward: Forward, space: Space, texts: list[str]) -> Vectors:
    try:
        return checked(forward(texts, "document"), len(texts), space)
    except BadAnswer as error:
        reason = f"it does not make the vectors of its space: {error.reason}"
        raise ModelRefused(model=space.name, reason=reason) from error
