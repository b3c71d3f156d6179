"""Queries and judgements (qrels), read from files in the formats of BEIR and TREC."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from embedfleet_schema.errors import UsageError

# Texts of queries by their ids; and by the id of a query, grades by the keys of documents.
Queries = Mapping[str, str]
Judgements = Mapping[str, Mapping[str, int]]

_IDS, _TEXTS = ("_id", "id", "query_id", "query-id", "qid"), ("text", "query", "title")


def read_queries(path: Path) -> dict[str, str]:
    """Queries from JSON Lines with an id (`_id`, `id`) and a text (`text`, `query`) in each line.

    Raises:
        UsageError: the file cannot be read, or a line is no query.
    """
    found: dict[str, str] = {}
    for number, line in _lines(path):
        row = _object(path, number, line)
        key = next((row[name] for name in _IDS if name in row), None)
        text = next((row[name] for name in _TEXTS if name in row), None)
        if not isinstance(key, str | int) or not isinstance(text, str):
            raise _bad(path, number, 'a query is {"_id": "1", "text": "..."}')
        if found.setdefault(str(key), text) != text:
            raise _bad(path, number, f"the query {key!r} is there twice, with another text")
    if not found:
        raise UsageError(reason=f"{path} holds no queries")
    return found


def read_judgements(path: Path) -> dict[str, dict[str, int]]:
    """Judgements from TREC's four columns (query, ignored, document, grade), or from BEIR's three
    (query, document, grade), which may have a header.

    Columns are between tabs, or where there are none, between spaces.

    Raises:
        UsageError: the file cannot be read, or a line is no judgement.
    """
    found: dict[str, dict[str, int]] = {}
    for at, (number, line) in enumerate(_lines(path)):
        cells = _cells(line)
        if cells is None:
            raise _bad(path, number, "a judgement has 3 columns (BEIR) or 4 (TREC)")
        query, document, written = cells[0], cells[-2], cells[-1]
        try:
            grade = int(written)
        except ValueError:
            if at == 0 and len(cells) == len(("query", "document", "grade")):
                continue  # its header
            raise _bad(path, number, f"the grade {written!r} is no whole number") from None
        if found.setdefault(query, {}).setdefault(document, grade) != grade:
            what = f"document {document!r} has two grades for query {query!r}"
            raise _bad(path, number, what)
    if not found:
        raise UsageError(reason=f"{path} holds no judgements")
    return found


def _cells(line: str) -> list[str] | None:
    for cells in ([cell.strip() for cell in line.split("\t")], line.split()):
        if len(cells) in {3, 4} and all(cells):
            return cells
    return None


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not empty, with their numbers."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line.strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise UsageError(reason=f"{path} cannot be read: {reason}") from error


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _bad(path, number, f"it is not JSON ({error})") from error
    if not isinstance(row, dict):
        raise _bad(path, number, 'a query is {"_id": "1", "text": "..."}')
    return row


def _bad(path: Path, number: int, reason: str) -> UsageError:
    return UsageError(reason=f"{path}, line {number}: {reason}")
