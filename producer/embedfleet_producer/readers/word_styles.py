"""Which paragraph styles of a Word file are headings, and of which level."""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_LEVEL = 6
_HEADING = re.compile(r"heading ([1-9])", re.IGNORECASE)
# Styles may be based on one another in a ring.
_MAX_STEPS = 20


@dataclass(slots=True)
class _Style:
    level: int | None = None
    parent: str = ""


class Styles:
    """Hears the part of the styles."""

    def __init__(self) -> None:
        self._styles: dict[str, _Style] = {}
        self._current = _Style()

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        value = attributes.get("val", "")
        match tag:
            case "style":
                self._current = _Style()
                self._styles[attributes.get("styleId", "")] = self._current
            case "name" if found := _HEADING.fullmatch(value):
                self._current.level = int(found[1])
            case "name" if value.lower() == "title":
                self._current.level = 1
            case "outlineLvl" if self._current.level is None:
                self._current.level = outline_level(value)
            case "basedOn":
                self._current.parent = value

    def end(self, tag: str) -> None:
        """Styles do not nest."""

    def data(self, text: str) -> None:
        """All is in attributes."""

    def levels(self) -> dict[str, int]:
        """The level of each style that is a heading, its own or that of what it is based on."""
        found = {name: self._level(name) for name in self._styles}
        return {name: min(level, MAX_LEVEL) for name, level in found.items() if level}

    def _level(self, name: str) -> int:
        for _ in range(_MAX_STEPS):
            style = self._styles.get(name)
            if style is None:
                return 0
            if style.level is not None:
                return style.level
            name = style.parent
        return 0


def outline_level(value: str) -> int:
    """Word counts from 0, and 9 is body text; 0 stands for none here."""
    return int(value) + 1 if value in set("012345678") else 0
