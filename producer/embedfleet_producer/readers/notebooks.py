"""Jupyter notebooks: what was written in them, not what they printed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from io import BufferedReader
from typing import Any

from embedfleet_producer.readers.file_metadata import titled
from embedfleet_producer.readers.rejections import FileRejected, Note, Verdict
from embedfleet_producer.readers.text import read_text, text_document


def read_notebook(key: str, stream: BufferedReader, max_bytes: int) -> Iterator[Verdict]:
    """One document per notebook: Markdown cells as they are, code cells between fences."""
    try:
        book = json.loads(read_text(stream, max_bytes))
    except (ValueError, RecursionError) as error:
        raise FileRejected("BAD_JSON", f"not a notebook: {error}") from error
    metadata = book.get("metadata") if isinstance(book, dict) else None
    metadata = metadata if isinstance(metadata, dict) else {}
    language = _language(metadata)
    blocks: list[str] = []
    bad: list[int] = []
    for number, cell in enumerate(_cells(book), 1):
        source = _source(cell)
        if source is None:
            bad.append(number)
        elif source.strip():
            is_code = cell.get("cell_type") == "code"
            blocks.append(_fenced(source, language) if is_code else source.strip("\n"))
    if bad:
        yield Note(key, "CELL_UNREADABLE", f"{len(bad):,} in all, cell {bad[0]} first: no text")
    if not blocks:
        raise FileRejected("EMPTY", "no cell of it has text")
    text = "\n\n".join(blocks).replace("\0", "").encode("utf-8", "replace").decode()
    document = text_document(key, text, "ipynb", mode="markdown")
    yield from titled(document, metadata.get("title"))


def _cells(book: object) -> list[Any]:
    """The cells; notebooks of before 2015 keep them in worksheets.

    Raises:
        FileRejected: BAD_JSON.
    """
    if isinstance(book, dict):
        sheets = book.get("worksheets")
        holders = sheets if isinstance(sheets, list) else [book]
        found = [holder.get("cells") for holder in holders if isinstance(holder, dict)]
        lists = [cells for cells in found if isinstance(cells, list)]
        if lists:
            return [cell for cells in lists for cell in cells]
    raise FileRejected("BAD_JSON", "not a notebook: it has no list of cells")


def _source(cell: object) -> str | None:
    if not isinstance(cell, dict):
        return None
    source = cell.get("source", cell.get("input"))
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        return "".join(source)
    return source if isinstance(source, str) else None


def _language(metadata: Mapping[str, Any]) -> str:
    for holder, name in (("language_info", "name"), ("kernelspec", "language")):
        found = metadata.get(holder)
        value = found.get(name) if isinstance(found, dict) else None
        if isinstance(value, str) and value.isalnum() and value.isascii():
            return value
    return "python"


def _fenced(source: str, language: str) -> str:
    """A fence that the code does not hold itself."""
    fence = "```"
    while fence in source:
        fence += "`"
    return f"{fence}{language}\n{source.strip(chr(10))}\n{fence}"
