"""Embedders: what turns texts into vectors, one implementation per provider."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from embedfleet_schema.catalogue.api_models import API_PROVIDERS
from embedfleet_schema.catalogue.plugins import is_plugin_space
from embedfleet_schema.errors import BadModelName, ModelRefused
from embedfleet_schema.types import Space
from embedfleet_workers.embedders.engine import ANY, Wanted
from embedfleet_workers.embedders.protocol import Embedder

if TYPE_CHECKING:
    from embedfleet_workers.embedders.api.factory import ApiEmbedderFactory

__all__ = ["Embedder", "check_allowed", "load_embedder"]


def load_embedder(
    space: Space,
    *,
    device: str,
    threads: int | None = None,
    allowed_models: Sequence[str] = (),
    faults: str = "",
    wanted: Wanted = ANY,
    api: ApiEmbedderFactory | None = None,
) -> Embedder:
    """The embedder of a space, loaded and tried.

    Args:
        space: what the vectors have to be.
        device: where a local model runs: cpu, cuda, cuda:1, mps.
        threads: CPU cores that a local model may use; None means all that the process may.
        allowed_models: patterns of `provider/model` that may be loaded; none means all.
        faults: for the fake provider, in the form that `Faults.parse` reads.
        wanted: the engine and the precision of a local model.
        api: what spaces behind an API need; None where no such space is loaded.

    Raises:
        BadModelName: it is behind an API, and `api` is None.
        PluginMissing, PluginBroken: another package provides it, and that cannot be used.
        ModelRefused: the model is not allowed here, or does not fit its space.
        ModelNotFound, ExtraMissing, KeyMissing, WorkerStartFailed: it cannot be loaded.
    """
    check_allowed(space, allowed_models)
    if is_plugin_space(space):
        return _load_plugin(space, device, threads)
    if space.provider in API_PROVIDERS and api is None:
        reason = "a process that loads it needs access to APIs"
        raise BadModelName(name=space.name, reason=reason)
    if api and space.provider in API_PROVIDERS:
        return api.embedder(space)
    if space.provider == "fake":
        return _load_fake(space, faults)
    return _load_local(space, device, threads, wanted)


def check_allowed(space: Space, allowed_models: Sequence[str]) -> None:
    """Raise ModelRefused where patterns are given and the model is like none of them."""
    if allowed_models and not any(fnmatch.fnmatchcase(space.name, p) for p in allowed_models):
        reason = f"this worker loads only {', '.join(allowed_models)}"
        raise ModelRefused(model=space.name, reason=reason)


def _load_fake(space: Space, faults: str) -> Embedder:
    from embedfleet_workers.embedders.fake import FakeEmbedder
    from embedfleet_workers.embedders.faults import Faults

    return FakeEmbedder(space, Faults.parse(faults))


def _load_plugin(space: Space, device: str, threads: int | None) -> Embedder:
    from embedfleet_workers.embedders.plugin import load_plugin

    return load_plugin(space, device, threads)


def _load_local(space: Space, device: str, threads: int | None, wanted: Wanted) -> Embedder:
    from embedfleet_schema.catalogue.model_files import find_model
    from embedfleet_schema.catalogue.model_revision import model_revision, weights_part
    from embedfleet_schema.catalogue.space_lookup import uncut
    from embedfleet_workers.embedders.local import LocalEmbedder

    directory = find_model(space.model)
    # A machine may hold another model under the same name: fine-tuned, newer, or changed by hand.
    if space.revision:
        found = model_revision(space.model)
        wanted = replace(wanted, revision=found)
        if not space.takes(replace(space, revision=found)):
            same_weights = weights_part(found) == weights_part(space.revision)
            what = "another tokenizer or configuration" if same_weights else "other weights"
            reason = (
                f"{directory} holds {what} than the space was made with "
                f"({found}, not {space.revision})"
            )
            raise ModelRefused(model=space.name, reason=reason)
    return LocalEmbedder(space, directory, device, threads, wanted, uncut(space))
