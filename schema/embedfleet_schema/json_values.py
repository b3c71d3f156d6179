"""How a value of any kind becomes JSON: one rule for what readers store and filters ask for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

# How deep a value of the metadata may nest; the metadata as a whole are two levels deeper.
MAX_VALUE_DEPTH = 30

Lost = Callable[[str], None]


def json_value(value: object, lost: Lost, depth: int = MAX_VALUE_DEPTH) -> Any:  # noqa: ANN401
    """The value as JSON has it: dates and times as ISO text, decimals and UUIDs as their digits.

    What has no such form becomes None, after `lost` was told why.
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str | bytes):
        return _text(value, lost)
    if isinstance(value, Mapping | list | tuple):
        return _nested(value, lost, depth)
    if isinstance(value, float) and math.isfinite(value):
        return value
    return _written(value, lost)


def _nested(
    value: Mapping[Any, object] | Sequence[object], lost: Lost, depth: int
) -> dict[str, Any] | list[Any] | None:
    if depth == 0:
        lost("nested too deeply")
        return None
    if isinstance(value, Mapping):
        return {str(name): json_value(inner, lost, depth - 1) for name, inner in value.items()}
    return [json_value(inner, lost, depth - 1) for inner in value]


def _text(value: str | bytes, lost: Lost) -> str | None:
    try:
        text = value if isinstance(value, str) else value.decode()
    except UnicodeDecodeError:
        lost("bytes that are not text")
        return None
    if "\0" in text:
        lost("text with a NUL character")
        return None
    return text


def _written(value: object, lost: Lost) -> str | None:
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Decimal | UUID | timedelta):
        return str(value)
    if isinstance(value, float):
        lost("not a finite number")
    else:
        lost(f"of a type that JSON has no form for ({type(value).__name__})")
    return None
