"""The project's documents, and the blocks of code in them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "deploy/secrets/README.md",
]
# In an item of a list, a block is indented.
_FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block; `line` is that of its first line of code."""

    path: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def blocks(path: Path, *languages: str) -> Iterator[Block]:
    """The fenced blocks of a document, in order; those of some languages, if any are named."""
    text = path.read_text()
    for found in _FENCED.finditer(text):
        if not languages or found[2] in languages:
            line = text.count("\n", 0, found.start()) + 2
            yield Block(path, line, found[2], dedent(found[3]))


@cache
def prose(path: Path) -> str:
    """A document without its fenced blocks."""
    return _FENCED.sub("", path.read_text())
