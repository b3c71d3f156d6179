"""Models as settings name them: what no model can be called is refused, not kept in silence."""

from __future__ import annotations

import re
from difflib import get_close_matches

from embedfleet_schema.catalogue.api_models import API_MODELS, PROVIDERS
from embedfleet_schema.catalogue.plugins import installed, is_plugin

_WILDCARD = re.compile(r"[*?[]")
_SHORT = "sentence-transformers/"
_RELATIVE = re.compile(r"\.{1,2}(/|$)|~")


def check_name(name: str) -> str:
    """The name, if a model can have it: `provider/model`, as `embedfleet collection list` says it.

    Raises:
        ValueError: with the right form, and what may have been meant.
    """
    provider, _, model = name.partition("/")
    known = provider in PROVIDERS or is_plugin(provider)
    if not known or not model or model != model.strip():
        raise ValueError(f"{name!r} names no model{_form(name)}")
    _check_local(name)
    return name


def check_pattern(pattern: str) -> str:
    """The pattern of `fnmatch`, if the name of some model can match it.

    Raises:
        ValueError: as for a name.
    """
    start = _WILDCARD.split(pattern, 1)[0]
    if start == pattern:
        return check_name(pattern)
    starts = (f"{provider}/" for names in (PROVIDERS, installed()) for provider in names)
    if not any(each.startswith(start) or start.startswith(each) for each in starts):
        raise ValueError(f"{pattern!r} matches no model{_form(pattern)}")
    _check_local(start)
    return pattern


def _check_local(name: str) -> None:
    """Of two ways to write a local model, its space has one."""
    provider, _, model = name.partition("/")
    if provider != "local":
        return
    if model.startswith(_SHORT):
        short = model.removeprefix(_SHORT)
        raise ValueError(f"{name!r} names no model: write local/{short}")
    if _RELATIVE.match(model):
        raise ValueError(f"{name!r} names no model: a directory is written as its absolute path")


def _form(name: str) -> str:
    near = get_close_matches(name, API_MODELS, 1, cutoff=0.8)
    if not near and "/" in name.strip("/") and name.partition("/")[0].lower() not in PROVIDERS:
        near = [f"local/{name}"]
    hint = f" (did you mean {near[0]}?)" if near else ""
    example = f"write provider/model, as in {API_MODELS[0]}"
    return f"{hint}: {example}; the providers are {', '.join((*PROVIDERS, *installed()))}"
