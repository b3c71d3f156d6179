"""The template of a collection: what is embedded before each content, from metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from string import Formatter
from typing import Any, NamedTuple

from embedfleet_producer.headings import HEADINGS
from embedfleet_schema.errors import BadChunking
from embedfleet_schema.unicode_forms import is_unicode
from embedfleet_schema.visible_text import has_text

CONTENT, KEY = "content", "key"
LONGEST_TEMPLATE = 4_000
_BESIDE_LETTERS = frozenset("_- ")


class _Part(NamedTuple):
    """Literal text, and the field behind it."""

    literal: str
    name: str | None


class Template:
    """Text with fields in braces, of which `{content}` is the last: "{title}: {content}".

    A field is a name of the metadata of the chunk (that of its document, of its marks, its own).
    `{key}` is the document's key, `{headings}` the path of headings above it. What stands before
    the content is the context of a chunk. A line of it whose fields are all empty is left out, with
    its literal text. A literal brace is written twice.

    Python's own syntax is read here, but nothing is formatted: a field has no attributes, no items
    and no format.

    Raises:
        BadChunking: it is no such template.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._lines = _lines(_parsed(text)) if text else []

    def __bool__(self) -> bool:
        return bool(self._lines)

    def context(self, key: str, metadata: Mapping[str, Any]) -> str | None:
        """What stands before a chunk with this metadata; None where nothing does."""
        lines = [self._line(line, key, metadata) for line in self._lines]
        # The last one leads to the content, and stays.
        *before, last = lines or [""]
        context = "".join(f"{line}\n" for line in before if line is not None) + (last or "")
        context = context.lstrip()
        return context if has_text(context) else None

    def _line(self, line: list[_Part], key: str, metadata: Mapping[str, Any]) -> str | None:
        found = [_value(part.name, key, metadata) for part in line]
        given = [value for part, value in zip(line, found, strict=True) if _is_field(part)]
        if line is not self._lines[-1] and given and not any(given):
            return None
        return "".join(part.literal + value for part, value in zip(line, found, strict=True))


def _is_field(part: _Part) -> bool:
    return part.name is not None


def _value(name: str | None, key: str, metadata: Mapping[str, Any]) -> str:
    if name is None:
        return ""
    value = key if name == KEY else metadata.get(name)
    return _written(value, " > " if name == HEADINGS else ", ").strip()


def _written(value: object, between: str) -> str:
    """A value as text, alike from Python and from PostgreSQL, which stores 1e3 as 1000."""
    match value:
        case None:
            return ""
        case str():
            return value
        case list() | tuple():
            return between.join(filter(None, (_written(each, ", ") for each in value)))
        case float() if value.is_integer():
            return str(int(value))
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _parsed(text: str) -> list[_Part]:
    if len(text) > LONGEST_TEMPLATE:
        raise _refused(f"it has at most {LONGEST_TEMPLATE:,} characters")
    if "\0" in text or not is_unicode(text):
        raise _refused("it holds a NUL, or half of a surrogate pair")
    try:
        found = list(Formatter().parse(text))
    except ValueError as error:
        raise _refused(f"{error}. A literal brace is written twice: {{{{ or }}}}") from None
    for _, name, form, conversion in found:
        if name is not None and (form or conversion or not _is_name(name)):
            written = (
                f"{{{name}{'!' + conversion if conversion else ''}{':' + form if form else ''}}}"
            )
            raise _refused(
                f"{written} is no field. A field is a name of letters, digits, spaces, _ and -; "
                "a literal brace is written twice"
            )
    names = [name for _, name, _, _ in found]
    if names.count(CONTENT) != 1 or names[-1] != CONTENT:
        raise _refused(f"it holds {{{CONTENT}}} once, at its end")
    return [_Part(literal, name) for literal, name, _, _ in found]


def _is_name(name: str) -> bool:
    """What has a . or [ would be an attribute or an item, which a field has not."""
    return name.strip() == name != "" and all(
        each.isalnum() or each in _BESIDE_LETTERS for each in name
    )


def _lines(parts: list[_Part]) -> list[list[_Part]]:
    """The parts before the content, line by line."""
    lines: list[list[_Part]] = [[]]
    for literal, name in parts:
        *ended, rest = literal.split("\n")
        for each in ended:
            lines[-1].append(_Part(each, None))
            lines.append([])
        lines[-1].append(_Part(rest, None if name == CONTENT else name))
    return lines


def _refused(reason: str) -> BadChunking:
    return BadChunking(reason=f"the template does not work: {reason}")
