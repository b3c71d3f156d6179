"""Single values of a row: which is a text, a key, a piece of metadata."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from embedfleet_producer.readers.json_structure import MAX_VALUES, has_too_many_values
from embedfleet_schema.json_values import json_value
from embedfleet_schema.unicode_forms import is_unicode

# Longer lists of numbers are taken for vectors, which nobody filters by.
LONGEST_NUMBERS = 100
# Above it, neighbouring whole numbers are the same float.
_EXACT = 2**53


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands for a value that Python cannot hold, with the reason."""

    reason: str


class BadKey(Exception):
    """A value that identifies nothing; the message is for people."""


def parse_object(text: str) -> dict[str, Any]:
    """A JSON object that PostgreSQL can store.

    Raises:
        ValueError: it is none; the message is for people.
    """
    if has_too_many_values(text):
        raise ValueError(f"it holds more than {MAX_VALUES:,} values")
    try:
        found = _DECODER.decode(text)
        if "\\u" in text and not is_unicode(json.dumps(found, ensure_ascii=False)):
            raise ValueError("an escape sequence is half a character")
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(found, dict):
        raise ValueError("it is not a JSON object")  # noqa: TRY004 - one kind of error for callers
    return found


def text_of(value: object) -> str | None:
    """The text in a cell; None where there is none, or white space alone."""
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            return None
    return value if isinstance(value, str) and not (value == "" or value.isspace()) else None


def why_no_text(value: object) -> str:
    """What is wrong with a cell that should hold the text."""
    if value is None or value == "" or (isinstance(value, str) and value.isspace()):
        return "is empty"
    if isinstance(value, Unreadable):
        return f"cannot be read: {value.reason}"
    if isinstance(value, bytes):
        return "holds bytes that are not UTF-8"
    return f"holds {_kind(value)}, not text"


def is_missing(value: object) -> bool:
    """Whether a cell holds nothing: null, white space, or the NaN that stands for null."""
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or (isinstance(value, str) and (value == "" or value.isspace()))


def key_text(value: object) -> str:
    """The key that a cell holds. Equal numbers are one key: 1, "1" and 1.0.

    Raises:
        BadKey: it is none.
    """
    match value:
        case str():
            return value
        case bool():
            raise BadKey("true and false cannot be keys")
        case int():
            return str(value)
        case float() | Decimal():
            return _number(value)
        case {"$oid": str(oid), **rest} if not rest:  # how MongoDB exports its ids
            return oid
        case list() | tuple() | Mapping():
            raise BadKey(f"it holds {_kind(value)}")
        case Unreadable():
            raise BadKey(f"it cannot be read: {value.reason}")
    return _written(value)


def is_vector(value: object) -> bool:
    """Whether it is a list of so many numbers that it must be a vector."""
    return (
        isinstance(value, list)
        and len(value) > LONGEST_NUMBERS
        and all(isinstance(each, int | float) for each in value)
    )


def metadata_object(value: object) -> dict[str, Any] | None:
    """What a column `metadata` adds to the columns: an object, or a string that is one in JSON."""
    if isinstance(value, dict):
        return value
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            return parse_object(value)
        except ValueError:
            # Not an object after all: it stays what it is, a column with a string in it.
            return None
    return None


def _number(value: float | Decimal) -> str:
    if not math.isfinite(value):
        raise BadKey("it is not a finite number")
    if isinstance(value, float) and abs(value) > _EXACT:
        raise BadKey(f"{value:.0f} is a float that may be several whole numbers")
    return str(int(value)) if value == int(value) else str(value)


def _written(value: object) -> str:
    reasons: list[str] = []
    text = json_value(value, reasons.append)
    if not isinstance(text, str):
        raise BadKey(f"it is {reasons[0]}")
    return text


def _kind(value: object) -> str:
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    return "true or false" if isinstance(value, bool) else "a number or a date"


def _each_name_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice[:100]!a} comes twice")
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number[:20]} is out of range")
    return value


# Made once: that takes as long as reading a row.
_DECODER = json.JSONDecoder(
    parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_each_name_once
)
