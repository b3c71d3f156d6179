"""Arguments and options that several commands share, and what their values must be."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from embedfleet_schema.errors import BadFilter, UsageError
from embedfleet_schema.turns import Lane
from embedfleet_schema.types import LARGEST_ID
from embedfleet_schema.unicode_forms import is_unicode


def unicode_text(value: str) -> str:
    """The argument, if PostgreSQL can hold it."""
    if not is_unicode(value):
        raise UsageError(reason=f"{value!a} is not valid UTF-8; check the terminal's encoding")
    return value


def optional_unicode(value: str | None) -> str | None:
    return None if value is None else unicode_text(value)


def path_text(value: str) -> str:
    """The argument, if it names something: an unset variable of a script is not this folder."""
    if not value.strip():
        raise UsageError(reason="a path is empty; for the current folder, write .")
    return value


def file_to_write(path: Path | None) -> Path | None:
    """The argument, if its folder is there: it is written to after what takes long."""
    if path is not None and (path.is_dir() or not path.parent.is_dir()):
        what = "is a folder" if path.is_dir() else f"cannot be written: there is no {path.parent}"
        raise UsageError(reason=f"{path} {what}. Name a file in a folder that is there")
    return path


_ESCAPES = {"n": "\n", "t": "\t", "\\": "\\"}


def template_text(value: str | None) -> str | None:
    r"""What was typed, where \n is a new line: shells leave it as it is."""
    if value is None:
        return None
    return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[0]), unicode_text(value))


Name = Annotated[str, typer.Argument(metavar="NAME", help="The collection.", callback=unicode_text)]
Where = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE", help="Metadata that it must have. A JSON value keeps its type."
    ),
]
Filter = Annotated[
    str | None,
    typer.Option(
        metavar="JSON",
        help='A filter with operators: {"year": {"gte": 2020}, "document": {"prefix": "docs/"}}.',
    ),
]
JobId = Annotated[
    int, typer.Argument(metavar="JOB", min=1, max=LARGEST_ID, help="The number of the job.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]
Template = Annotated[
    str | None,
    typer.Option(
        help=r"What is embedded with each chunk, from metadata: '{title}\n\n{content}'",
        callback=template_text,
    ),
]
Budget = Annotated[
    float | None,
    typer.Option(
        metavar="USD", help="The most that the job may cost. It is paused before it costs more."
    ),
]
LaneOption = Annotated[
    Lane | None,
    typer.Option(
        "--lane",
        help="interactive goes before bulk. Default: what is small and new is interactive.",
    ),
]
TenantOption = Annotated[
    str | None,
    typer.Option(
        "--tenant",
        metavar="TENANT",
        help="Whose share of the workers the job uses.",
        callback=optional_unicode,
    ),
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until all is embedded.")]


def parse_where(conditions: Sequence[str]) -> dict[str, Any]:
    """Metadata that a hit must contain, from `key=value` words: JSON, and the words themselves.

    Raises:
        BadFilter: a word has no `=` or no key, or a key comes twice.
    """
    from embedfleet_schema.store.filters import Conditions

    wanted: dict[str, Any] = {}
    written: dict[str, str] = {}
    for condition in conditions:
        key, equals, value = condition.partition("=")
        if not is_unicode(condition):
            raise BadFilter(filter=condition, reason="it is not valid UTF-8")
        if not equals:
            raise BadFilter(filter=condition, reason="there is no = in it")
        if not key:
            raise BadFilter(filter=condition, reason="there is no key before the =")
        if key in wanted:
            raise BadFilter(filter=condition, reason=f"the key {key!r} is given twice")
        wanted[key] = _value(value)
        written[key] = value
    return Conditions(wanted, written)


def parse_filter(conditions: Sequence[str], text: str | None) -> dict[str, Any]:
    """What `--where` and `--filter` select together.

    Raises:
        BadFilter: a condition is none, or the text is no JSON object.
    """
    from embedfleet_schema.store.filters import in_language

    wanted = parse_where(conditions)
    if text is None:
        return wanted
    try:
        given = json.loads(text, parse_constant=_no_value)
    except (ValueError, RecursionError) as error:
        raise BadFilter(filter=text, reason=f"it is not JSON ({error})") from error
    if not isinstance(given, dict):
        raise BadFilter(filter=text, reason='it is not an object such as {"lang": "en"}')
    return {"and": [in_language(wanted), given]} if wanted else given


def _value(text: str) -> Any:  # noqa: ANN401 - what JSON can say
    from embedfleet_schema.json_values import json_value

    try:
        found = json_value(json.loads(text, parse_constant=_no_value), _no_value)
        json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return text
    return found


def _no_value(reason: str) -> None:
    """What JSON or PostgreSQL cannot say (NaN, 1e999, a NUL escape) stays the word that it is."""
    raise ValueError(reason)
