"""The verdict on each document, before the database sees it. Codes are stable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from embedfleet_schema.types import Chunk, Document, Rejection

MAX_KEY_BYTES = 512
MAX_METADATA_BYTES = 64_000
MAX_METADATA_DEPTH = 32

# Characters that occupy no space on paper: a text of nothing else has nothing to embed.
_INVISIBLE = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad"))


@dataclass(frozen=True, slots=True)
class Judged:
    """A document that may be stored: its metadata as JSON, and the digest that tells a change."""

    document: Document
    metadata: str
    digest: bytes
    size: int


class _Refused(Exception):
    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def judge(document: object, *, max_bytes: int) -> Judged | Rejection:
    """Accept a document, or say in a code and a sentence why not.

    Codes: NOT_A_DOCUMENT, BAD_KEY, KEY_TOO_LONG, NOT_TEXT, EMPTY, NUL_BYTE, BAD_UNICODE, TOO_LONG,
    BAD_METADATA.
    """
    if not isinstance(document, Document):
        kind = type(document).__name__
        return Rejection(printable(document), "NOT_A_DOCUMENT", f"a Document is needed, not {kind}")
    try:
        _check_key(document.key)
        metadata = _metadata_json(document.metadata)
        digest, size = _digest(document, metadata, max_bytes)
    except _Refused as refused:
        return Rejection(printable(document.key), refused.code, refused.reason)
    return Judged(document, metadata, digest, size)


def _digest(document: Document, metadata: str, max_bytes: int) -> tuple[bytes, int]:
    """SHA-256 over all that makes the document's rows, and its text's size in bytes."""
    kind = "chunks" if document.text is None else document.mode or "text"
    digest = hashlib.sha256(f"{kind}{metadata}".encode())
    size = 0
    for text, extra in _texts(document):
        encoded = _encoded(text)
        size += len(encoded)
        if size > max_bytes:
            raise _Refused("TOO_LONG", f"it is longer than {max_bytes:,} bytes; split it")
        # Lengths keep ["ab", "c"] and ["a", "bc"] apart.
        digest.update(b"%d:" % len(encoded))
        digest.update(encoded)
        digest.update(extra.encode())
    return digest.digest(), size


def printable(key: object) -> str:
    """A key that PostgreSQL can hold, for reports about one that it cannot."""
    text = key if isinstance(key, str) else repr(key)
    text = text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
    return text.encode()[:MAX_KEY_BYTES].decode(errors="ignore")


def has_text(text: str) -> bool:
    """Whether anything visible is in the text."""
    return bool(text.strip()) and bool(text.translate(_INVISIBLE).strip())


def _check_key(key: object) -> None:
    if not isinstance(key, str) or not key:
        raise _Refused("BAD_KEY", "a key is a string of at least one character")
    if len(_encoded(key)) > MAX_KEY_BYTES:
        raise _Refused("KEY_TOO_LONG", f"a key has at most {MAX_KEY_BYTES} bytes")


def _texts(document: Document) -> Iterator[tuple[str, str]]:
    """The texts of a document, each with what else of it matters for a change."""
    if (document.text is None) == (document.chunks is None):
        raise _Refused("NOT_TEXT", "a document has either a text or chunks")
    if document.text is not None:
        yield _visible(document.text), ""
    elif not document.chunks:
        raise _Refused("EMPTY", "the list of chunks is empty")
    for chunk in document.chunks or ():
        if isinstance(chunk, Chunk):
            yield _visible(chunk.content), _metadata_json(chunk.metadata)
        else:
            yield _visible(chunk), ""


def _visible(text: object) -> str:
    if not isinstance(text, str):
        raise _Refused("NOT_TEXT", f"text is needed, not {type(text).__name__}")
    if not has_text(text):
        raise _Refused("EMPTY", "there is no visible text")
    return text


def _encoded(text: str) -> bytes:
    if "\0" in text:
        raise _Refused("NUL_BYTE", f"character {text.index(chr(0))} is NUL; remove it")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        reason = f"character {error.start} is half of a surrogate pair; decode the text again"
        raise _Refused("BAD_UNICODE", reason) from None


def _metadata_json(metadata: object) -> str:
    if not isinstance(metadata, Mapping):
        raise _Refused("BAD_METADATA", f"metadata is a mapping, not {type(metadata).__name__}")
    if not metadata:
        return "{}"
    _check_values(metadata, MAX_METADATA_DEPTH)
    try:
        text = json.dumps(dict(metadata), allow_nan=False, sort_keys=True, ensure_ascii=False)
        size = len(text.encode())
    except (TypeError, ValueError) as error:
        # UnicodeEncodeError is a ValueError: a lone surrogate in the metadata ends here too.
        reason = f"metadata is not JSON: {error}"
        raise _Refused("BAD_METADATA", printable(reason)) from None
    if size > MAX_METADATA_BYTES:
        raise _Refused("BAD_METADATA", f"metadata has at most {MAX_METADATA_BYTES:,} bytes")
    return text


def _check_values(value: object, depth: int) -> None:
    if depth == 0:
        raise _Refused("BAD_METADATA", f"metadata is nested deeper than {MAX_METADATA_DEPTH}")
    if isinstance(value, Mapping):
        for name, item in value.items():
            if not isinstance(name, str):
                raise _Refused("BAD_METADATA", f"the name {name!r} in metadata is not a string")
            _check_values(name, depth)
            _check_values(item, depth - 1)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_values(item, depth - 1)
    elif isinstance(value, str) and "\0" in value:
        raise _Refused("BAD_METADATA", "metadata holds a NUL character")
