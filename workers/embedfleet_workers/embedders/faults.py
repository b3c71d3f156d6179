"""Faults that the fake embedder plays on demand, so that recovery can be tested."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, Self, get_args, get_type_hints

from embedfleet_schema.errors import BadSettings

Wrong = Literal["", "too_few", "too_many", "too_narrow", "nan", "inf", "zero"]
Raised = Literal["EmbeddingError", "MemoryError", "SystemExit", "KeyboardInterrupt"]


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong, and when. Calls are counted from 1 over the life of one embedder."""

    latency: float = 0.0
    """Seconds that every call takes at least."""
    poison: str = ""
    """A text that contains this cannot be embedded (InputAtFault)."""
    quote: str = ""
    """A text that contains this fails with a foreign error that quotes all of it."""
    kill: str = ""
    """A text that contains this kills the process, as the out-of-memory killer would."""
    error_every: int = 0
    """Every n-th call fails."""
    error: Raised = "EmbeddingError"
    """What a call that fails raises; a retry may cure each of them."""
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
        choices = {name: get_args(hint) for name, hint in get_type_hints(cls).items()}
        given: dict[str, object] = {}
        for item in filter(None, text.split(";")):
            name, separator, value = item.partition("=")
            if name not in known or not separator:
                raise BadSettings(reason=f"no fault {item!r}; write one of {_shapes(known)}")
            given[name] = _read(name, known[name], value, choices[name])
        return cls(**given)  # type: ignore[arg-type]


def _shapes(known: dict[str, type]) -> str:
    return ", ".join(f"{name}=<{kind.__name__}>" for name, kind in known.items())


def _read(name: str, kind: type, value: str, choices: tuple[str, ...]) -> object:
    if choices and value not in choices:
        shown = ", ".join(filter(None, choices))
        raise BadSettings(reason=f"the fault {name}={value!r} is not one of {shown}")
    try:
        number = kind(value)
    except ValueError:
        raise BadSettings(reason=f"the fault {name}={value!r} is not a number") from None
    if kind is not str and not 0 <= number < float("inf"):
        raise BadSettings(reason=f"the fault {name}={value!r} is out of range")
    return number
