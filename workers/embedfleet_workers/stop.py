"""A provider's stop, as every part of a worker hands it on: adapters, the limiter, decisions."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stop:
    """The provider takes nothing more until a person acts. `whole_account`: not of any model."""

    code: str
    reason: str
    whole_account: bool = True
