"""Faults that the fake embedder plays on demand, so that recovery can be tested."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, Self, get_args

from embedfleet_schema.errors import BadSettings

Wrong = Literal["", "too_few", "too_many", "too_narrow", "nan", "inf", "zero"]


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong, and when. Calls are counted from 1 over the life of one embedder."""

    latency: float = 0.0
    """Seconds that every call takes at least."""
    poison: str = ""
    """A text that contains this cannot be embedded (InputAtFault)."""
    kill: str = ""
    """A text that contains this kills the process, as the out-of-memory killer would."""
    error_every: int = 0
    """Every n-th call fails with an error that a retry may cure."""
    busy_every: int = 0
    """Every n-th call asks to wait (EmbedderBusy)."""
    busy_seconds: float = 1.0
    """How long a busy embedder asks to wait."""
    wrong: Wrong = ""
    """How an answer is wrong."""
    wrong_every: int = 1
    """Every n-th answer is wrong in that way."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `latency=0.05;poison=XYZZY;wrong=nan`; an empty text means no faults.

        Raises:
            BadSettings: an unknown name, a value that does not parse, or a negative number.
        """
        known = {field.name: type(field.default) for field in fields(cls)}
        given: dict[str, object] = {}
        for item in filter(None, text.split(";")):
            name, separator, value = item.partition("=")
            if name not in known or not separator:
                raise BadSettings(reason=f"no fault {item!r}; write one of {_shapes(known)}")
            given[name] = _read(name, known[name], value)
        return cls(**given)  # type: ignore[arg-type]


def _shapes(known: dict[str, type]) -> str:
    return ", ".join(f"{name}=<{kind.__name__}>" for name, kind in known.items())


def _read(name: str, kind: type, value: str) -> object:
    if name == "wrong" and value not in get_args(Wrong):
        raise BadSettings(reason=f"the fault wrong={value!r} is none of {get_args(Wrong)[1:]}")
    try:
        number = kind(value)
    except ValueError:
        raise BadSettings(reason=f"the fault {name}={value!r} is not a number") from None
    if kind is not str and not 0 <= number < float("inf"):
        raise BadSettings(reason=f"the fault {name}={value!r} is out of range")
    return number
