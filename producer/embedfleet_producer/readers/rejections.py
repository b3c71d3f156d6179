"""How a reader turns down an input, and what is said about it."""

from __future__ import annotations

import os
from dataclasses import dataclass

from embedfleet_schema.types import Document, Rejection


@dataclass(frozen=True, slots=True)
class Note:
    """Something beside a text that was not taken, while the text was; `code` is stable."""

    key: str
    code: str
    reason: str


# What readers yield; `read_paths` keeps the notes for its report.
Verdict = Document | Rejection | Note


class FileRejected(Exception):
    """Raised inside a reader about its whole file; `read_paths` turns it into a `Rejection`."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def printable(path: str | os.PathLike[str]) -> str:
    r"""The name of a file as valid Unicode: bytes that are not UTF-8 are shown as `\xff`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def os_reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def short_reason(error: Exception) -> str:
    """The first line of a foreign error, for a parser that may say anything at any length."""
    lines = str(error).strip().splitlines()
    return printable(lines[0][:200]) if lines else type(error).__name__
