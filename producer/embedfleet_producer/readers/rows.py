"""One row of a table to one verdict; the same rules for JSON Lines, CSV and Parquet."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from embedfleet_producer.readers.json_structure import MAX_VALUES, has_too_many_values
from embedfleet_producer.readers.refusals import Verdict, is_unicode
from embedfleet_schema.types import Document, Rejection

KEY_FIELDS = ("key", "id")
TEXT_FIELDS = ("text", "content", "body")
METADATA_FIELD = "metadata"


def row_document(row: Mapping[str, Any], place: str) -> Verdict:
    """The document in a row, or why there is none.

    The first of `TEXT_FIELDS` that holds text is the text, the first of `KEY_FIELDS` that holds a
    string or an integer is the key (else `place`). A `metadata` object (or a string that is one in
    JSON) and every other column that holds a single value are the metadata; the object wins.
    Values that are missing (null, empty, not a number) are left out.

    Args:
        row: column to value, as JSON knows values.
        place: `<file key>#<line>`.
    """
    text_field = next((name for name in TEXT_FIELDS if _has_text(row.get(name))), None)
    if text_field is None:
        return Rejection(place, "MISSING_TEXT", f"no text in {' or '.join(TEXT_FIELDS)}")
    key_field = next((name for name in KEY_FIELDS if _is_key(row.get(name))), None)
    given = _metadata_object(row.get(METADATA_FIELD))
    used = {text_field, key_field} | ({METADATA_FIELD} if given is not None else set())
    columns = {name: value for name, value in row.items() if name not in used and _is_scalar(value)}
    key = place if key_field is None else str(row[key_field])
    return Document(key, row[text_field], columns | (given or {}))


def parse_object(text: str) -> dict[str, Any]:
    """A JSON object that PostgreSQL can store.

    Raises:
        ValueError: it is none; the message is for people.
    """
    if has_too_many_values(text):
        raise ValueError(f"it holds more than {MAX_VALUES:,} values")
    try:
        found = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
        if "\\u" in text and not is_unicode(json.dumps(found, ensure_ascii=False)):
            raise ValueError("an escape stands for half a character")
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise ValueError("it nests too deeply") from error
    if not isinstance(found, dict):
        raise ValueError("it is not a JSON object")  # noqa: TRY004 - one kind of error for callers
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number[:20]} is out of range")
    return value


def _has_text(value: object) -> bool:
    return isinstance(value, str) and not (value == "" or value.isspace())


def _is_key(value: object) -> bool:
    return _has_text(value) or (isinstance(value, int) and not isinstance(value, bool))


def _is_scalar(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str | int) and value != ""


def _metadata_object(value: object) -> dict[str, Any] | None:
    if isinstance(value, dict):
        return value
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            return parse_object(value)
        except ValueError:
            # Not an object after all: it stays what it is, a column with a string in it.
            return None
    return None
