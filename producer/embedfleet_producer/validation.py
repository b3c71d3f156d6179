"""The verdict on each document, before the database sees it. Codes are stable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TypeGuard, TypeVar, cast, get_args

from embedfleet_producer.context_fault import context_fault
from embedfleet_producer.embedded_chunks import EmbeddedChunk
from embedfleet_producer.placeholders import PlaceholderChunk
from embedfleet_producer.printable import MAX_KEY_BYTES, printable, shown
from embedfleet_schema.embedded_text import text_hash
from embedfleet_schema.types import Chunk, ChunkMode, Document, Mark, Rejection
from embedfleet_schema.visible_text import has_text

Given = TypeVar("Given")
Found = TypeVar("Found")

MAX_SOURCE_BYTES = 4_096
MAX_METADATA_BYTES = 64_000
MAX_METADATA_DEPTH = 32

# Offsets are stored as int4.
MAX_OFFSET = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Validated:
    """A document that may be stored: its metadata as JSON, and the digest that tells a change.

    Of its ready-made chunks, a faulty one is a `PlaceholderChunk`. `mode` is how its text is
    cut, as far as nobody cut it already; with `contextual`, a caller's function says the context of
    each chunk.
    """

    document: Document
    metadata: str
    digest: bytes
    size: int
    mode: ChunkMode = "text"
    contextual: bool = False


# One encoder for all: `json.dumps` with arguments makes one for each call.
_written = json.JSONEncoder(allow_nan=False, sort_keys=True, ensure_ascii=False).encode

_MODES = get_args(ChunkMode)
_KINDS: dict[ChunkMode, str] = {"text": "text", "markdown": "markdown with headings"}


class _Rejected(Exception):
    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def validate(
    document: object, *, max_bytes: int, mode: ChunkMode = "text", contextual: bool = False
) -> Validated | Rejection:
    """Accept a document, or say in a code and a sentence why not.

    `mode` is how texts are cut that do not say it themselves; `contextual` tells that a caller's
    function is to say contexts. A ready-made chunk that is at fault is refused alone, as long as
    another one is left.

    Codes: NOT_A_DOCUMENT, BAD_KEY, KEY_TOO_LONG, BAD_MODE, BAD_SOURCE, NOT_TEXT, EMPTY, NUL_BYTE,
    BAD_UNICODE, TOO_LONG, BAD_OFFSETS, BAD_METADATA, BAD_MARKS, BAD_CONTEXT.
    """
    if not isinstance(document, Document):
        kind = type(document).__name__
        return Rejection(printable(document), "NOT_A_DOCUMENT", f"a Document is needed, not {kind}")
    try:
        _check_key(document.key)
        if document.former_key is not None:
            _check_key(document.former_key)
        _check_mode(document.mode)
        _check_source(document.source)
        metadata = _metadata_json(document.metadata)
        mode = document.mode or mode
        digest, size = _digest(document, metadata, max_bytes, mode, contextual=contextual)
    except _Rejected as refused:
        if (mended := _with_placeholders(document)) is not None:
            return validate(mended, max_bytes=max_bytes, mode=mode, contextual=contextual)
        source = storable_source(document.place)
        return Rejection(printable(document.key), refused.code, refused.reason, source)
    return Validated(document, metadata, digest, size, mode, contextual)


def checked(piece: object) -> str | Chunk:
    """A ready-made chunk as it is, or what stands for it if it cannot be stored."""
    chunk = piece if isinstance(piece, Chunk) else Chunk(cast("str", piece))
    if isinstance(chunk, PlaceholderChunk):
        return chunk
    try:
        _encoded(_string(chunk.content))
        _metadata_json(chunk.metadata)
        _offsets(chunk)
        _context(chunk)
    except _Rejected as fault:
        shown = printable(chunk.content)
        given = chunk.content if isinstance(chunk.content, str) else shown
        # No text holds a NUL: nothing else has this address.
        said = f"\0{fault.code}\0{fault.reason}\0{given}".encode("utf-8", "surrogatepass")
        return PlaceholderChunk(shown, code=fault.code, reason=fault.reason, hash=text_hash(said))
    return piece if isinstance(piece, str) else chunk


def _with_placeholders(document: Document) -> Document | None:
    """The document without its faulty chunks; None where they are not what is wrong with it, or
    where it is an import, which is taken whole.
    """
    if document.text is not None:
        return None
    try:
        given = _listed(document.chunks)
    except _Rejected:
        return None
    if any(isinstance(piece, EmbeddedChunk) for piece in given):
        return None
    chunks = [checked(piece) for piece in given]
    is_same = all(one is other for one, other in zip(chunks, given, strict=True))
    return None if is_same else replace(document, chunks=chunks)


def _digest(
    document: Document, metadata: str, max_bytes: int, mode: ChunkMode, *, contextual: bool
) -> tuple[bytes, int]:
    """SHA-256 over all that makes the document's rows, and its text's size in bytes.

    How a text is cut is part of it, but for what a collection never changes, or sees to itself: its
    template. So is whether a function says contexts, but not what it says. Texts without marks have
    the digests that they always had; Markdown has another since its chunks carry headings.
    """
    kind = "chunks" if document.text is None else _KINDS[mode]
    if contextual:
        kind += " in contexts"
    digest = hashlib.sha256(f"{kind}{metadata}".encode())
    size = 0
    for text, extra in _texts(document):
        # A character has a byte at least: what is far too long is not encoded to be measured.
        encoded = _encoded(text) if size + len(text) <= max_bytes else b""
        size += max(len(encoded), len(text))
        if size > max_bytes:
            raise _Rejected("TOO_LONG", f"it is longer than {max_bytes:,} bytes; split it")
        # Lengths keep ["ab", "c"] and ["a", "bc"] apart.
        digest.update(b"%d:" % len(encoded))
        digest.update(encoded)
        digest.update(extra.encode())
    if document.marks != ():
        digest.update(_marks(document).encode())
    return digest.digest(), size


def _check_key(key: object) -> None:
    if not isinstance(key, str) or not key:
        raise _Rejected("BAD_KEY", "a key must be a string of at least one character")
    if len(_encoded(key)) > MAX_KEY_BYTES:
        raise _Rejected("KEY_TOO_LONG", f"a key has at most {MAX_KEY_BYTES} bytes")


def _check_mode(mode: object) -> None:
    if mode is not None and not (isinstance(mode, str) and mode in _MODES):
        raise _Rejected("BAD_MODE", f"the mode is one of {', '.join(_MODES)}, or None")


def _check_source(source: object) -> None:
    if source is None:
        return
    if not isinstance(source, str) or not source or len(_encoded(source)) > MAX_SOURCE_BYTES:
        raise _Rejected("BAD_SOURCE", f"a source is a string of 1 to {MAX_SOURCE_BYTES:,} bytes")


def storable_source(source: object) -> str | None:
    """The source of a verdict, unless it is none that PostgreSQL can hold."""
    try:
        _check_source(source)
    except _Rejected:
        return None
    return source if isinstance(source, str) else None


def _texts(document: Document) -> Iterator[tuple[str, str]]:
    """The texts of a document, each with what else of it matters for a change."""
    if (document.text is None) == (document.chunks is None):
        raise _Rejected("NOT_TEXT", "a document must have either a text or chunks")
    if document.text is not None:
        yield _visible(document.text), ""
        return
    is_visible, fault = False, _Rejected("EMPTY", "no chunk has visible text")
    for chunk in _listed(document.chunks):
        if isinstance(chunk, PlaceholderChunk):
            if fault.code == "EMPTY":
                fault = _Rejected(chunk.code, chunk.reason)
            yield chunk.content, f"!{chunk.hash.hex()}"
            continue
        if isinstance(chunk, Chunk):
            text = _string(chunk.content)
            extra = _metadata_json(chunk.metadata) + _offsets(chunk) + _context(chunk)
        else:
            text, extra = _string(chunk), ""
        is_visible = is_visible or has_text(text)
        yield text, extra
    if not is_visible:
        raise fault


def _listed(chunks: object) -> Sequence[object]:
    """The chunks of a document; an iterator would be used up by its own verdict."""
    if not _is_list(chunks):
        raise _Rejected("NOT_TEXT", f"chunks come as a list, not as {type(chunks).__name__}")
    listed = _read("NOT_TEXT", "the list of chunks cannot be read", list, chunks)
    if not listed:
        raise _Rejected("EMPTY", "the list of chunks is empty")
    return listed


def _read(code: str, fault: str, reading: Callable[[Given], Found], given: Given) -> Found:
    """What a caller's object holds; what its own code raises is a fault of that object alone."""
    try:
        return reading(given)
    except _Rejected:
        raise
    except Exception as error:  # noqa: BLE001
        raise _Rejected(code, printable(f"{fault}: {shown(error)}")) from None


def _is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _offsets(chunk: Chunk) -> str:
    """The offsets that came with a chunk, as far as they are there."""
    given = [offset for offset in (chunk.start, chunk.end) if offset is not None]
    if any(type(offset) is not int or not 0 <= offset <= MAX_OFFSET for offset in given):
        raise _Rejected("BAD_OFFSETS", f"start and end are whole numbers from 0 to {MAX_OFFSET:,}")
    if given != sorted(given):
        raise _Rejected("BAD_OFFSETS", f"a chunk that starts at {given[0]} ends at {given[1]}")
    return f"{chunk.start}:{chunk.end}" if given else ""


def _context(chunk: Chunk) -> str:
    """The context that came with a chunk, as it is digested. Nothing else holds a NUL."""
    if chunk.context is None:
        return ""
    if fault := context_fault(chunk.context):
        raise _Rejected("BAD_CONTEXT", fault)
    return f"\0{chunk.context}"


def _marks(document: Document) -> str:
    """The marks of a text as they are digested; those in force together are small enough."""
    marks = _marks_listed(document.marks)
    if not marks:
        return ""
    if document.text is None:
        raise _Rejected("BAD_MARKS", "marks belong to a text; ready-made chunks have metadata")
    written = "".join(_mark(mark, len(document.text)) for mark in marks)
    longest: dict[str, int] = {}
    for name, value in chain.from_iterable(mark.metadata.items() for mark in document.marks):
        size = len(json.dumps({name: value}, ensure_ascii=False).encode())
        longest[name] = max(longest.get(name, 0), size)
    if sum(longest.values()) > MAX_METADATA_BYTES:
        reason = f"metadata of marks has at most {MAX_METADATA_BYTES:,} bytes for a chunk"
        raise _Rejected("BAD_METADATA", reason)
    return written


def _marks_listed(marks: object) -> Sequence[object]:
    if not _is_list(marks):
        raise _Rejected("BAD_MARKS", f"marks come as a list, not as {type(marks).__name__}")
    return _read("BAD_MARKS", "the list of marks cannot be read", list, marks)


def _mark(mark: object, length: int) -> str:
    if not isinstance(mark, Mark):
        raise _Rejected("BAD_MARKS", f"a Mark is needed, not {type(mark).__name__}")
    if type(mark.start) is not int or not 0 <= mark.start <= length:
        raise _Rejected("BAD_MARKS", f"a mark starts within its text, from 0 to {length:,}")
    return f"@{mark.start}{_metadata_json(mark.metadata)}"


def _visible(text: object) -> str:
    checked = _string(text)
    if not has_text(checked):
        raise _Rejected("EMPTY", "there is no visible text")
    return checked


def _string(text: object) -> str:
    if not isinstance(text, str):
        raise _Rejected("NOT_TEXT", f"text is needed, not {type(text).__name__}")
    return text


def _encoded(text: str) -> bytes:
    if "\0" in text:
        raise _Rejected("NUL_BYTE", f"character {text.index(chr(0))} is NUL; remove it")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        reason = f"character {error.start} is half of a surrogate pair; decode the text again"
        raise _Rejected("BAD_UNICODE", reason) from None


def metadata_fault(metadata: object) -> str | None:
    """Why metadata could not be stored; None where it can."""
    try:
        _metadata_json(metadata)
    except _Rejected as refused:
        return refused.reason
    return None


def _metadata_json(metadata: object) -> str:
    if not isinstance(metadata, Mapping):
        raise _Rejected("BAD_METADATA", f"metadata is a mapping, not {type(metadata).__name__}")
    # What is no JSON, a lone surrogate too, and what the code of a caller's own mapping raises.
    text, size = _read("BAD_METADATA", "metadata is not JSON", _written_whole, metadata)
    if size > MAX_METADATA_BYTES:
        raise _Rejected("BAD_METADATA", f"metadata has at most {MAX_METADATA_BYTES:,} bytes")
    return text


def _written_whole(metadata: Mapping[object, object]) -> tuple[str, int]:
    own = dict(metadata)
    _check_values(own, MAX_METADATA_DEPTH)
    text = _written(own)
    return text, len(text.encode())


def _check_values(value: object, depth: int) -> None:
    if depth == 0:
        raise _Rejected("BAD_METADATA", f"metadata is nested deeper than {MAX_METADATA_DEPTH}")
    if isinstance(value, str):
        if "\0" in value:
            raise _Rejected("BAD_METADATA", "metadata holds a NUL character")
    elif isinstance(value, Mapping):
        for name, item in value.items():
            if not isinstance(name, str):
                raise _Rejected("BAD_METADATA", f"a name is not a string: {printable(name)}")
            _check_values(name, depth)
            _check_values(item, depth - 1)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_values(item, depth - 1)
