"""Filters: what Python adds to the language that `embedfleet.filter_condition` compiles to SQL.

A cell of CSV is text, a value of JSON Lines or Parquet has a type, and who asks for `year=12` means
both. So a value that stands alone also finds the text that it is written as, and a text in either
Unicode form: `path` is the key of a file. The database adds the forms that it knows; Python and the
words of the command line may write a number in another way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import Connection, sql

from embedfleet_schema.errors import BadFilter
from embedfleet_schema.json_values import json_value
from embedfleet_schema.statements import load

_SQL = load("search")

# The escape itself, not a backslash (written as two) before the letters u0000.
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


# What the name of a test means by itself.
_WORDS = frozenset(("and", "or", "not", "document"))


class Conditions(dict[str, Any]):
    """Conditions from words, on metadata: `written` holds each as it was typed, such as 1.50."""

    def __init__(self, values: Mapping[str, Any], written: Mapping[str, str]) -> None:
        super().__init__(values)
        self.written = written


def as_filter(where: Mapping[str, Any]) -> str:
    """The filter as JSON for the functions of the database.

    Raises:
        BadFilter: a value cannot be written as JSON, or PostgreSQL cannot hold it.
    """
    return _json(where, in_language(where))


def in_language(where: Mapping[str, Any]) -> dict[str, Any]:
    """The filter with all that a value may be written as."""
    if isinstance(where, Conditions):
        parts = [
            _any_of(where, _name(where, key), value, where.written[key], _text(where, value))
            for key, value in where.items()
        ]
        return parts[0] if len(parts) == 1 else {"and": parts}
    floats = {key: value for key, value in where.items() if isinstance(value, float)}
    rest = {key: value for key, value in where.items() if key not in floats}
    written = [_any_of(where, key, value, _text(where, value)) for key, value in floats.items()]
    return {"and": [*written, rest]} if written else rest


@contextmanager
def refusals(where: Mapping[str, Any] | None) -> Iterator[None]:
    """What the database says against a filter, in our words."""
    try:
        yield
    except psycopg.errors.InvalidParameterValue as error:
        raise BadFilter(filter=dict(where or {}), reason=error.diag.message_primary) from error


def condition(conn: Connection[Any], where: Mapping[str, Any]) -> sql.Composable:
    """The filter as SQL over the columns `metadata` and `document`, beside parameters.

    Raises:
        BadFilter: it is none.
    """
    with refusals(where):
        row = conn.execute(_SQL["condition"], {"filter": as_filter(where)}).fetchone()
    # A percent sign would be taken for a parameter.
    return sql.SQL("" if row is None else row[0].replace("%", "%%"))


def _any_of(where: Mapping[str, Any], name: str, *forms: object) -> dict[str, Any]:
    """A value that stands alone, in several forms. An object would be taken for operators."""
    distinct = {_json(where, form): form for form in forms}.values()
    tests = [{name: {"contains": f} if isinstance(f, Mapping) else f} for f in distinct]
    return tests[0] if len(tests) == 1 else {"or": tests}


def _name(where: Mapping[str, Any], key: str) -> str:
    """A key of metadata, as a path where it could be taken for something else."""
    return key if key.isidentifier() and key not in _WORDS else f"$.{_json(where, key)}"


def _text(where: Mapping[str, Any], value: object) -> str:
    return value if isinstance(value, str) else _json(where, value)


def _json(where: Mapping[str, Any], value: object) -> str:
    def refuse(reason: str) -> None:
        raise BadFilter(filter=dict(where), reason=f"a value is {reason}")

    try:
        text = json.dumps(json_value(value, refuse), allow_nan=False, ensure_ascii=False)
        text.encode()  # half of a surrogate pair is a ValueError here
    except (TypeError, ValueError) as error:
        raise BadFilter(filter=dict(where), reason=str(error)) from error
    if _NUL.search(text):
        raise BadFilter(filter=dict(where), reason="PostgreSQL cannot hold the character NUL")
    return text
