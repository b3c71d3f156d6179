"""The spaces of models behind an API: from the catalogue, or from what the caller says."""

from __future__ import annotations

import re

from embedfleet_schema.catalogue import api_models
from embedfleet_schema.catalogue.api_models import ApiModel
from embedfleet_schema.errors import BadModelName
from embedfleet_schema.types import Space

# What embedding models of servers that speak OpenAI's protocol commonly take; a server with less
# refuses longer texts, so it is better said.
COMPATIBLE_MAX_TOKENS = 8_192
_MODEL = re.compile(r"[\w.:/@+-]{1,200}", re.ASCII)


def api_space(provider: str, model: str, dimensions: int | None, max_tokens: int | None) -> Space:
    """The space of a provider's model. Adapters normalize, so all of these are normalized.

    Raises:
        BadModelName: nobody can be called that, too little is known of it, or it does not offer
            these dimensions or as many tokens.
    """
    name = f"{provider}/{model}"
    if not _MODEL.fullmatch(model):
        raise BadModelName(name=name, reason="a model's name cannot have spaces or such characters")
    _check_positive(name, dimensions, max_tokens)
    entry = api_models.find(provider, model)
    if entry is None:
        return _stated(provider, model, dimensions, max_tokens)
    if dimensions is not None and dimensions not in entry.widths:
        reason = f"it offers {entry.offered()} dimensions, not {dimensions}"
        raise BadModelName(name=name, reason=reason)
    if max_tokens is not None and max_tokens > entry.max_tokens:
        reason = f"it takes {entry.max_tokens} tokens, not {max_tokens}"
        raise BadModelName(name=name, reason=reason)
    return _catalogued(entry, model, dimensions, max_tokens)


def _catalogued(
    entry: ApiModel, model: str, dimensions: int | None, max_tokens: int | None
) -> Space:
    return Space(
        entry.provider,
        model,
        dimensions or entry.dimensions,
        max_tokens or entry.max_tokens,
        document_prompt=entry.document_prompt,
        query_prompt=entry.query_prompt,
    )


def _stated(provider: str, model: str, dimensions: int | None, max_tokens: int | None) -> Space:
    """A model that is not in the catalogue: newer than this version, or of a compatible server."""
    if provider == "openai" and max_tokens is None:
        max_tokens = COMPATIBLE_MAX_TOKENS
    if dimensions is None or max_tokens is None:
        raise BadModelName(name=f"{provider}/{model}", reason=_unknown(provider, model))
    return Space(provider, model, dimensions, max_tokens)


def _unknown(provider: str, model: str) -> str:
    near = api_models.resembling(provider, model)
    if near:
        hint = f"did you mean {' or '.join(near)}?"
    else:
        hint = f"known are {', '.join(api_models.known(provider))}."
    needed = "dimensions" if provider == "openai" else "dimensions and max_tokens"
    return (
        f"{provider} has no such model that embedfleet knows; {hint} For a new model, give {needed}"
    )


def _check_positive(name: str, dimensions: int | None, max_tokens: int | None) -> None:
    for option, value in (("dimensions", dimensions), ("max_tokens", max_tokens)):
        if value is not None and value < 1:
            raise BadModelName(name=name, reason=f"{option} is a number from 1 on, not {value}")
