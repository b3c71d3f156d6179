"""Words for an error that may stand in a log and in a row: they quote no text and no row."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from embedfleet_schema.database_errors import DatabaseFull
from embedfleet_schema.errors import EmbedfleetError
from embedfleet_workers.embedding_errors import EmbeddingError

# So many characters of a text in a row are a quotation; fewer are words that anybody uses.
QUOTATION = 16
# Of a message that is longer, an embedder's foreign part is the rest.
LONGEST = 500
_LEFT_OUT = "its message quotes the text and is left out"


def describe(error: BaseException, texts: Sequence[str] = ()) -> str:
    """What an error says, if it says nothing of `texts`.

    Messages of other libraries may quote their input, and those of PostgreSQL quote rows, so they
    are reduced to their type. An embedder's error is ours, but its reason may be a foreign one.
    """
    if isinstance(error, EmbeddingError) and _quotes(str(error), texts):
        return f"{type(error).__name__}: {_LEFT_OUT}"
    if isinstance(error, EmbedfleetError):
        return _shortened(str(error))
    if isinstance(error, psycopg.errors.DiskFull):
        return str(DatabaseFull())
    if isinstance(error, psycopg.Error):
        return f"{type(error).__name__} {error.sqlstate or ''}".strip()
    return type(error).__name__


def unquoted(reason: str, texts: Sequence[str]) -> str:
    """What an embedder gave as a reason, if it says nothing of `texts`."""
    return _LEFT_OUT if _quotes(reason, texts) else _shortened(reason)


def _quotes(message: str, texts: Sequence[str]) -> bool:
    shown = _shortened(message)
    pieces = {shown[start : start + QUOTATION] for start in range(len(shown) - QUOTATION + 1)}
    written = "\n".join(texts)
    return any(piece in written for piece in pieces)


def _shortened(message: str) -> str:
    return message if len(message) <= LONGEST else f"{message[:LONGEST]}..."
