"""What runs a model on packs of tokens, one pack on each of some threads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from embedfleet_schema.types import EngineName, Precision, WantedEngine, WantedPrecision
from embedfleet_workers.embedders.protocol import Rows

if TYPE_CHECKING:
    from embedfleet_schema.setting_fields import SettingFields
    from embedfleet_workers.embedders.tokens import Features


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person wants of the engine of local models; `auto` takes what is quickest here.

    `converted` is the folder for converted models, and `revision` what the model's files come to;
    without both, nothing is kept. `padded_tokens` is how much goes through the model at once.
    """

    engine: WantedEngine = "auto"
    precision: WantedPrecision = "auto"
    converted: Path | None = None
    revision: str = ""
    padded_tokens: int | None = None


ANY = Wanted()


def wanted_of(settings: SettingFields, revision: str = "") -> Wanted:
    converted = settings.cache / "converted"
    return Wanted(settings.engine, settings.precision, converted, revision)


class OutOfMemory(RuntimeError):
    """The device has no room for a pack: a smaller one may fit."""


class Engine(Protocol):
    """A model from tokens to vectors: transformer, pooling and what else the model has."""

    name: EngineName
    precision: Precision
    streams: int
    """How many threads may call `run` at the same time."""
    padded_tokens: int
    """How many tokens of a pack, padding included, are quickest here."""

    def bind(self) -> None:
        """Called once by each of the threads, before its first `run`."""
        ...

    def run(self, features: Features) -> Rows:
        """The vectors of one pack, not yet checked.

        Raises:
            OutOfMemory: a smaller pack may fit.
        """
        ...
