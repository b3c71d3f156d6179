"""Filters by metadata: what a condition finds, whatever wrote the value.

A cell of CSV is text, a value of JSON Lines or Parquet has a type, and who asks for `year=12` means
both. So a condition that is no text also finds the text that it is written as. One that is a text
finds it in either Unicode form: `path` is the key of a file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from psycopg import sql

from embedfleet_schema.errors import BadFilter
from embedfleet_schema.json_values import json_value
from embedfleet_schema.unicode_forms import unicode_forms

# The escape itself, not a backslash (written as two) before the letters u0000.
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


class Conditions(dict[str, Any]):
    """Conditions from words: `written` holds each as it was typed, such as 1.50 or "text"."""

    def __init__(self, values: Mapping[str, Any], written: Mapping[str, str]) -> None:
        super().__init__(values)
        self.written = written


def containment(where: Mapping[str, Any], *, beside_parameters: bool = False) -> sql.Composable:
    """The condition on the column `metadata` that holds where every key has its value.

    Its values are literals. They are written for a statement that is run without parameters, or
    `beside_parameters`.

    Raises:
        BadFilter: a value cannot be written as JSON, or PostgreSQL cannot hold it.
    """
    contains = _contains_doubled if beside_parameters else _contains
    parts: list[sql.Composable] = []
    for forms in _conditions(where):
        either = sql.SQL(" OR ").join([contains(form) for form in forms])
        parts.append(either if len(forms) == 1 else sql.SQL("({})").format(either))
    return sql.SQL(" AND ").join(parts)


def as_json(where: Mapping[str, Any]) -> str:
    """The same for a function: a list of conditions that all hold, each a list of objects of which
    one is contained.

    Raises:
        BadFilter: as `containment`.
    """
    conditions = [f"[{','.join(forms)}]" for forms in _conditions(where)]
    return f"[{','.join(conditions)}]"


def _conditions(where: Mapping[str, Any]) -> list[list[str]]:
    """Of each condition the objects that fulfil it, as JSON."""
    plain: dict[str, Any] = {}
    conditions: list[list[str]] = []
    for key, value in where.items():
        forms = list(dict.fromkeys(_forms(where, key, value)))
        if len(forms) == 1:
            plain[key] = value
        else:
            conditions.append(forms)
    if plain:
        conditions.insert(0, [_json(where, plain)])
    return conditions


def _forms(where: Mapping[str, Any], key: str, value: object) -> Iterator[str]:
    """The objects that are looked for, as JSON: the value, and the texts that it is written as."""
    if isinstance(value, str):
        yield from (_json(where, {key: each}) for each in unicode_forms(value))
    else:
        yield _json(where, {key: value})
        text = _json(where, value)
        # A date or a decimal is stored as text already.
        yield _json(where, {key: json.loads(text) if text.startswith('"') else text})
    if isinstance(where, Conditions) and key in where.written:
        yield _json(where, {key: where.written[key]})


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


def _contains(text: str) -> sql.Composable:
    return sql.SQL("metadata @> {}::jsonb").format(sql.Literal(text))


def _contains_doubled(text: str) -> sql.Composable:
    """The same where a percent sign would be taken for a parameter."""
    return _contains(text.replace("%", "%%"))
