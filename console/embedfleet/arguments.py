"""Arguments of public calls: what is wrong with one is said before a server is asked."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from numbers import Real
from operator import index
from types import NoneType
from typing import NoReturn, cast

import numpy as np
from numpy.typing import NDArray

from embedfleet_schema.errors import BadArgument, BadFilter, BadVector, UsageError, WrongType
from embedfleet_schema.json_values import json_value
from embedfleet_schema.turns import DEFAULT_TENANT, LANES, LONGEST_TENANT, Lane, Turn
from embedfleet_schema.types import LARGEST_INT, Chunking, Delivery
from embedfleet_schema.unicode_forms import is_unicode

SHOWN = 60


def whole(call: str, name: str, value: object, *, least: int = 1, most: int = LARGEST_INT) -> int:
    """A whole number between two others, NumPy's included."""
    wanted = f"a whole number from {least:,} to {most:,}"
    number = _integer(call, name, wanted, value)
    if not least <= number <= most:
        _bad(call, name, wanted, value)
    return number


def amount(call: str, name: str, value: object, *, unit: str) -> float:
    """A number from 0 on; infinity is one."""
    wanted = f"a number of {unit} from 0 on"
    if isinstance(value, bool) or not isinstance(value, Real | Decimal):
        wrong_type(call, name, wanted, value)
    try:
        number = float(value)
    except (OverflowError, ValueError):  # a signalling NaN is a ValueError
        _bad(call, name, wanted, value)
    if math.isnan(number) or number < 0:
        _bad(call, name, wanted, value)
    return number


def share(call: str, name: str, value: object) -> None:
    """A part of one."""
    wanted = "a number from 0 to 1"
    if isinstance(value, bool) or not isinstance(value, Real):
        wrong_type(call, name, wanted, value)
    if not 0 <= float(value) <= 1:
        _bad(call, name, wanted, value)


def score(call: str, name: str, value: object) -> None:
    """Any finite number, or None."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, Real):
        wrong_type(call, name, "a number", value)
    if not math.isfinite(value):
        _bad(call, name, "a finite number", value)


def budget(call: str, value: object) -> None:
    """An amount of money, or None; whether it can be kept is asked later."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, Real | Decimal)):
        wrong_type(call, "budget_usd", "a number of USD", value)


def text(call: str, name: str, value: object) -> str:
    """A string that PostgreSQL can hold."""
    if not isinstance(value, str):
        wrong_type(call, name, "a string", value)
    if not is_unicode(value):
        _bad(call, name, "a string of valid Unicode characters", value)
    if "\0" in value:
        _bad(call, name, "a string without NUL", value)
    return value


def path(call: str, name: str, value: object) -> str:
    """A path of the file system that names something."""
    if not isinstance(value, str | os.PathLike):
        wrong_type(call, name, "a path", value)
    found = os.fspath(value)
    if not isinstance(found, str):
        wrong_type(call, name, "a path", value)
    if not found.strip() or "\0" in found:
        _bad(call, name, "a path that names something", value)
    return found


def numbers(call: str, **numbers: int | None) -> None:
    for name, number in numbers.items():
        if number is not None:
            whole(call, name, number)


def words(call: str, **values: str | None) -> None:
    """Such strings by their names, or None."""
    for name, value in values.items():
        if value is not None:
            text(call, name, value)


def turn(call: str, lane: object, tenant: object) -> Turn:
    """The lane of a job, or None, and its tenant, or None."""
    if lane is not None:
        choice(call, "lane", lane, LANES)
    name = DEFAULT_TENANT if tenant is None else tenant_name(call, "tenant", tenant)
    return Turn(cast("Lane | None", lane), name)


def tenant_name(call: str, name: str, value: object) -> str:
    """A string that names a tenant: it is shown in one line."""
    found = text(call, name, value)
    if not 0 < len(found.strip()) <= len(found) <= LONGEST_TENANT or not found.isprintable():
        _bad(call, name, f"1 to {LONGEST_TENANT} printable characters", value)
    return found


def texts(call: str, name: str, values: object, example: str) -> list[str]:
    """Several strings; one alone would be taken for its letters."""
    wanted = f"a list of strings such as {example}"
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        wrong_type(call, name, wanted, values)
    found = list(values)
    for each in found:
        if not isinstance(each, str):
            wrong_type(call, name, wanted, each)
    return found


def choice(call: str, name: str, value: object, values: Sequence[str]) -> None:
    """One of a few words."""
    wanted = f"one of {', '.join(values)}"
    if not isinstance(value, str):
        wrong_type(call, name, wanted, value)
    if value not in values:
        _bad(call, name, wanted, value)


def flag(call: str, name: str, value: object) -> None:
    """Not what merely counts as true: "no" does."""
    if not isinstance(value, bool | np.bool_):
        wrong_type(call, name, "True or False", value)


def function(call: str, name: str, value: object) -> None:
    if value is not None and not callable(value):
        wrong_type(call, name, "a function", value)


def chunking(call: str, value: object) -> None:
    """A `Chunking` whose fields are of their types; whether the model can do it is asked later."""
    if not isinstance(value, Chunking):
        wrong_type(call, "chunking", "ef.Chunking(size=400, overlap=40)", value)
    wanted = "a whole number of tokens"
    if value.size is not None:
        _integer(call, "chunking.size", wanted, value.size)
    _integer(call, "chunking.overlap", wanted, value.overlap)
    for name in ("mode", "tokenizer", "too_long"):
        text(call, f"chunking.{name}", getattr(value, name))
    if value.template is not None:
        text(call, "chunking.template", value.template)


def where(value: object, call: str = "search") -> None:
    """A filter: a mapping of what JSON can hold."""
    if value is None:
        return
    if not isinstance(value, Mapping):
        wrong_type(call, "where", 'a dict such as {"lang": "en"}', value)

    def refuse(reason: str) -> None:
        raise BadFilter(filter=shown(value), reason=f"a value is {reason}")

    try:
        json.dumps(json_value(dict(value), refuse), allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise BadFilter(filter=shown(value), reason=str(error)) from error


def vector(space: str, value: object) -> NDArray[np.float32]:
    """A vector as an array; whether it fits the space is asked later."""
    if isinstance(value, Mapping | bytes | str) or not isinstance(value, Iterable):
        wrong_type("search", "query", "a text or a vector", value)
    try:
        with np.errstate(over="ignore"), warnings.catch_warnings():
            # Of complex numbers it would drop half with a warning.
            warnings.simplefilter("error")
            return np.asarray(value, dtype=np.float32)
    except (TypeError, ValueError, OverflowError, RecursionError, Warning) as error:
        raise BadVector(space=space, reason=f"it is not an array of numbers ({error})") from error


def _integer(call: str, name: str, wanted: str, value: object) -> int:
    if isinstance(value, bool | np.bool_):
        wrong_type(call, name, wanted, value)
    try:
        return index(value)  # type: ignore[arg-type]
    except TypeError:
        wrong_type(call, name, wanted, value)


def wrong_type(call: str, name: str, wanted: str, value: object) -> NoReturn:
    given = shown(value)
    if not (value is None or isinstance(value, bool) or _as_written(value) is None):
        given = f"{type(value).__name__} {given}"
    raise WrongType(call=call, name=name, wanted=wanted, given=given)


def shown(value: object) -> str:
    """Enough of a value to know it again: plain data as it is written, of all else what it is."""
    text = _as_written(value)
    if text is None:
        kind = type(value).__name__
        return f"{'an' if kind[0].lower() in 'aeiou' else 'a'} {kind}"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _as_written(value: object) -> str | None:
    """Plain data as Python writes it; None for objects, and for what is nested too deeply."""
    try:
        if not _is_plain(value):
            return None
        return str(value) if isinstance(value, Real | Decimal) else ascii(value)
    except (RecursionError, ValueError):  # a number may have too many digits
        return None


def _is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return type(value) is dict and all(map(_is_plain, [*value, *value.values()]))
    if isinstance(value, list | tuple):
        return type(value) in {list, tuple} and all(map(_is_plain, value))
    return type(value) in {str, bytes, NoneType} or isinstance(value, Real | Decimal)


def _bad(call: str, name: str, wanted: str, value: object) -> NoReturn:
    raise BadArgument(call=call, name=name, wanted=wanted, given=shown(value))


def delivery(provider_batches: bool) -> Delivery:
    """How texts are embedded."""
    flag("enqueue", "provider_batches", provider_batches)
    return "provider_batch" if provider_batches else "direct"


def mirror(call: str, source: str | None, *, mirror: bool) -> None:
    """What a mirror needs: the name of a source, if one is given."""
    flag(call, "mirror", mirror)
    if source is not None and not text(call, "source", source):
        raise UsageError(reason=f"{call}: source is a name, not empty")
