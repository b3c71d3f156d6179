"""Embedders that other packages bring: entry points of the group `embedfleet.embedders`.

An entry point's name is the provider in the name of a model, and its object is a class. Nothing of
such a package is imported before somebody names a model of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, get_args

from embedfleet_schema.catalogue.api_models import PROVIDERS
from embedfleet_schema.errors import BadModelName, EmbedfleetError
from embedfleet_schema.plugin_errors import PluginBroken, PluginMissing
from embedfleet_schema.types import Queue, Space

GROUP = "embedfleet.embedders"
# Four letters of a word, one letter of other scripts, one mark: more than most tokenizers need.
ESTIMATED_TOKEN = r"[A-Za-z0-9_]{1,4}|\w|[^\w\s]"  # noqa: S105 - it is public
# Written in names of models, in patterns and in URLs of settings.
_PROVIDER = re.compile(r"[a-z][a-z0-9_-]{0,39}", re.ASCII)
_MODEL = re.compile(r"[\w.:/@+-]{1,200}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What an embedder's class says of one of its models, without loading it.

    `max_tokens` counts the special tokens that the model adds. `revision` is a word that changes
    with the vectors. `tokenizer` is the name of a public tokenizer, or the path of a
    tokenizer.json in the class's own package; empty, tokens are estimated. `queue` is whose workers
    embed, if nobody chooses.
    """

    dimensions: int
    max_tokens: int
    revision: str = ""
    normalized: bool = True
    document_prompt: str = ""
    query_prompt: str = ""
    tokenizer: str | Path = ""
    queue: Queue = "cpu"


def is_plugin(provider: str) -> bool:
    """Whether an installed package provides it. What is built in, no package replaces."""
    return provider not in PROVIDERS and provider in _found()


def is_plugin_space(space: Space) -> bool:
    """Whether a package provides its model, here or where the space was made."""
    return space.provider not in PROVIDERS


def installed() -> list[str]:
    """The providers that installed packages bring, in the order of the alphabet."""
    return sorted(set(_found()) - set(PROVIDERS))


def plugin_class(provider: str, model: str) -> Any:  # noqa: ANN401 - what another package made
    """The class of a provider, imported now.

    Raises:
        PluginMissing: no installed package provides it.
        PluginBroken: two do, or it cannot be imported, or is no class.
    """
    points = _found().get(provider, ()) if provider not in PROVIDERS else ()
    if not points:
        raise PluginMissing(model=f"{provider}/{model}", provider=provider, reason="not installed")
    if len(points) > 1:
        raise _broken(points, provider, "only one package may provide this name")
    try:
        found = points[0].load()
    except Exception as error:
        raise _broken(points, provider, _said(error)) from error
    if not isinstance(found, type):
        raise _broken(points, provider, f"{points[0].value} is no class")
    return found


def describe(provider: str, model: str, dimensions: int | None = None) -> ModelDescription:
    """What the class of a provider says of a model.

    Raises:
        BadModelName: the name cannot be a model's, or the class knows no such model.
        PluginMissing, PluginBroken: as `plugin_class`, or what it says cannot be used.
    """
    name = f"{provider}/{model}"
    if not _MODEL.fullmatch(model):
        raise BadModelName(name=name, reason="a model's name cannot have spaces or such characters")
    found = plugin_class(provider, model)
    points = _found()[provider]
    try:
        said = found.describe(model, dimensions)
    except LookupError as error:
        reason = str(error.args[0]) if error.args else f"{provider} has no such model"
        raise BadModelName(name=name, reason=reason) from error
    except EmbedfleetError:
        raise
    except Exception as error:
        raise _broken(points, provider, _said(error)) from error
    if fault := _fault(said):
        raise _broken(points, provider, f"of {model} it says {fault}")
    return said  # type: ignore[no-any-return]


def plugin_space(
    provider: str, model: str, dimensions: int | None = None, max_tokens: int | None = None
) -> Space:
    """The space of a plugin's model.

    Raises:
        BadModelName: it has other dimensions, or takes fewer tokens; or as `describe`.
        PluginMissing, PluginBroken: as `describe`.
    """
    said = describe(provider, model, dimensions)
    name = f"{provider}/{model}"
    if dimensions not in (None, said.dimensions):
        reason = f"its vectors have {said.dimensions} dimensions, not {dimensions}"
        raise BadModelName(name=name, reason=reason)
    if max_tokens is not None and not 1 <= max_tokens <= said.max_tokens:
        reason = f"it takes {said.max_tokens} tokens, not {max_tokens}"
        raise BadModelName(name=name, reason=reason)
    return Space(
        provider,
        model,
        said.dimensions,
        max_tokens or said.max_tokens,
        revision=said.revision,
        normalized=said.normalized,
        document_prompt=said.document_prompt,
        query_prompt=said.query_prompt,
    )


def tokenizer_name(space: Space) -> str:
    """What is stored with a new collection, so that who enqueues needs no package: a public
    tokenizer by its name, and one inside the package by the name of the model.

    Raises:
        PluginMissing, PluginBroken: as `describe`.
    """
    said = describe(space.provider, space.model, space.dimensions).tokenizer
    return space.name if isinstance(said, Path) else said


def _fault(said: object) -> str:
    """What is wrong with a description; empty where nothing is."""
    if not isinstance(said, ModelDescription):
        return f"a {type(said).__name__}, not a ModelDescription"
    for name in ("dimensions", "max_tokens"):
        value = getattr(said, name)
        if type(value) is not int or value < 1:
            return f"{name} {value!r}, not a number from 1 on"
    for name in ("revision", "document_prompt", "query_prompt"):
        if not isinstance(getattr(said, name), str):
            return f"{name} {getattr(said, name)!r}, not text"
    tokenizer: object = said.tokenizer
    if not isinstance(tokenizer, str | Path):
        return f"tokenizer {tokenizer!r}, neither a name nor a path"
    if said.queue not in get_args(Queue):
        return f"queue {said.queue!r}, not one of {', '.join(get_args(Queue))}"
    return ""


@cache
def _found() -> dict[str, Sequence[EntryPoint]]:
    """Entry points by provider; those whose names could not be written in a model's are left out.

    A package that is installed twice, as a checkout and as a wheel, is found twice.
    """
    found: dict[str, dict[str, EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        if _PROVIDER.fullmatch(point.name):
            found.setdefault(point.name, {}).setdefault(point.value, point)
    return {name: tuple(points.values()) for name, points in found.items()}


def _broken(points: Sequence[EntryPoint], provider: str, reason: str) -> PluginBroken:
    packages = sorted({point.dist.name for point in points if point.dist is not None})
    return PluginBroken(
        model=provider,
        provider=provider,
        package=" and ".join(packages) or points[0].module,
        reason=reason,
    )


def _said(error: Exception) -> str:
    """One line of an error of somebody else's code."""
    line = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {line}" if line else type(error).__name__
