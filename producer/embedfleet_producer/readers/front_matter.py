"""YAML between two lines of dashes at the start of a Markdown file: metadata, not text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import yaml

MAX_CHARACTERS = 64_000
MAX_DEPTH = 24
_BLOCK = re.compile(
    r"\ufeff?---[ \t]*\r?\n(.*?)^(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE
)
_STR, _INT, _FLOAT, _BOOL, _NULL = (
    f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null")
)
# The core schema of YAML 1.2: `no` is a word, 12:30 and 2026-01-31 stay what they are.
_PLAIN = (
    (_NULL, re.compile(r"~|null|Null|NULL|")),
    (_BOOL, re.compile(r"true|True|TRUE|false|False|FALSE")),
    (_INT, re.compile(r"[-+]?[0-9]{1,18}")),
    (_FLOAT, re.compile(r"[-+]?(?:\.[0-9]+|[0-9]{1,18}(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]{1,2})?")),
)


class BadFrontMatter(ValueError):
    """What begins like front matter and is none; the message is for people."""


def split_front_matter(text: str) -> tuple[dict[str, Any], str]:
    """The front matter of a text, and the text after it.

    Raises:
        BadFrontMatter: it is not a YAML mapping of plain values, or too much of it.
    """
    found = _BLOCK.match(text, 0, MAX_CHARACTERS)
    if found is None:
        # A rule, as Markdown has them too, unless the block goes on and on.
        return {}, text
    return _mapping(found[1]), text[found.end() :]


def _mapping(block: str) -> dict[str, Any]:
    import yaml

    try:
        root = _root(yaml.parse(block, Loader=yaml.SafeLoader))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        lines = str(getattr(error, "problem", None) or error).splitlines()
        raise BadFrontMatter(lines[0] if lines else "it is not YAML") from error
    if root is None:
        return {}
    if not isinstance(root, dict):
        raise BadFrontMatter("it is not a mapping of names to values")
    return root


def _root(events: Iterator[yaml.Event]) -> object:
    """The one document of a stream of events. Built by hand: no tags, no aliases, no constructors.

    An alias stands for all that its anchor holds, and aliases of aliases grow without end.
    """
    import yaml

    root: object = None
    documents = 0
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            root = _value(next(events), events, 0)
    if documents > 1:
        raise BadFrontMatter("it holds more than one document")
    return root


def _value(event: yaml.Event, events: Iterator[yaml.Event], depth: int) -> object:
    import yaml

    if depth > MAX_DEPTH:
        raise BadFrontMatter(f"it is nested deeper than {MAX_DEPTH}")
    if isinstance(event, yaml.AliasEvent):
        raise BadFrontMatter("it uses an alias (*name), which is not followed")
    tag = getattr(event, "tag", None)
    if tag is not None and tag not in {"!", _STR}:
        raise BadFrontMatter(f"it uses the tag {tag[:50]}")
    if isinstance(event, yaml.MappingStartEvent):
        return _entries(events, depth)
    if isinstance(event, yaml.SequenceStartEvent):
        items = []
        while not isinstance(item := next(events), yaml.SequenceEndEvent):
            items.append(_value(item, events, depth + 1))
        return items
    assert isinstance(event, yaml.ScalarEvent)  # noqa: S101 - nothing else is left
    return _scalar(event.value, is_plain=tag is None and event.implicit[0])


def _entries(events: Iterator[yaml.Event], depth: int) -> dict[str, Any]:
    import yaml

    entries: dict[str, Any] = {}
    while not isinstance(name := next(events), yaml.MappingEndEvent):
        if not isinstance(name, yaml.ScalarEvent):
            raise BadFrontMatter("a name in it is not a plain word")
        entries[name.value] = _value(next(events), events, depth + 1)
    return entries


def _scalar(text: str, *, is_plain: bool) -> object:
    tag = next((tag for tag, form in _PLAIN if is_plain and form.fullmatch(text)), _STR)
    match tag:
        case "tag:yaml.org,2002:null":
            return None
        case "tag:yaml.org,2002:bool":
            return text.lower() == "true"
        case "tag:yaml.org,2002:int":
            return int(text)
        case "tag:yaml.org,2002:float":
            return float(text)
    return text
