"""What a reader's process is asked and answers, over a socket: JSON behind its length."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any

from embedfleet_producer.readers.embedded_row import EmbeddedRow
from embedfleet_producer.readers.rejections import Note, Verdict
from embedfleet_producer.readers.report import Shape
from embedfleet_schema.types import Document, Mark, Rejection

# How a reader process ends that has no memory left.
OUT_OF_MEMORY = 77

_LENGTH = struct.Struct("!Q")
_BLOCK_BYTES = 1 << 20
_KINDS: tuple[type[Verdict], ...] = (Document, Rejection, Note, EmbeddedRow)
# Taken once: a row is to cost as little as can be.
_NAMES = {kind: [each.name for each in fields(kind)] for kind in _KINDS}
_VALUES = {kind: attrgetter(*names) for kind, names in _NAMES.items()}
_SHAPE: dict[str, type] = {
    "name": str,
    "files": int,
    "documents": int,
    **dict.fromkeys(("text", "key", "metadata", "notes"), list),
}
_METADATA = _NAMES[Document].index("metadata")
_MARKS = _NAMES[Document].index("marks")

Frame = dict[str, Any]


class BadFrame(Exception):
    """What came is no frame, or a larger one than is taken."""


def send(channel: socket.socket, frame: Frame, descriptors: Sequence[int] = ()) -> None:
    body = json.dumps(frame, ensure_ascii=False).encode("utf-8", "surrogatepass")
    header = _LENGTH.pack(len(body))
    if descriptors:
        socket.send_fds(channel, [header], list(descriptors))
    else:
        channel.sendall(header)
    channel.sendall(body)


def receive(receive_bytes: Callable[[int], bytes], limit: int) -> Frame | None:
    """The next frame; None where the other side is gone.

    Args:
        receive_bytes: up to that many bytes, at least one, or none at the end.
        limit: in bytes.

    Raises:
        BadFrame: see there.
    """
    header = _exactly(receive_bytes, _LENGTH.size)
    if header is None:
        return None
    (length,) = _LENGTH.unpack(header)
    if length > limit:
        raise BadFrame
    body = _exactly(receive_bytes, length)
    if body is None:
        return None
    try:
        frame = json.loads(body.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise BadFrame from error
    if not isinstance(frame, dict):
        raise BadFrame
    return frame


def _exactly(receive_bytes: Callable[[int], bytes], count: int) -> bytes | None:
    blocks: list[bytes] = []
    while count:
        block = receive_bytes(min(count, _BLOCK_BYTES))
        if not block:
            return None
        blocks.append(block)
        count -= len(block)
    return b"".join(blocks)


def packed(verdict: Verdict) -> list[Any]:
    """A verdict as JSON: its kind and its fields in order."""
    kind = type(verdict)
    values = list(_VALUES[kind](verdict))
    if issubclass(kind, Document):
        values[_METADATA] = dict(values[_METADATA])
        values[_MARKS] = [[mark.start, dict(mark.metadata)] for mark in values[_MARKS]]
    return [_KINDS.index(kind), *values]


def characters(verdict: Verdict) -> int:
    """About how long what is long of a verdict is."""
    if isinstance(verdict, EmbeddedRow):
        return len(verdict.text or "") + len(verdict.vector)
    return len(verdict.text or "") if isinstance(verdict, Document) else 0


def verdicts(frame: Frame) -> list[Verdict]:
    """The verdicts that were packed into an answer.

    Raises:
        BadFrame: they were not.
    """
    try:
        return [_restored(number, values) for number, *values in frame["verdicts"]]
    except (AttributeError, TypeError, ValueError, LookupError) as error:
        raise BadFrame from error


def shape(frame: Frame) -> Shape:
    """What a file was made of until this answer.

    Raises:
        BadFrame: it does not say so.
    """
    found = frame.get("shape")
    if not isinstance(found, dict) or found.keys() != _SHAPE.keys():
        raise BadFrame
    for name, kind in _SHAPE.items():
        value = found[name]
        if not isinstance(value, kind):
            raise BadFrame
        if isinstance(value, list) and not all(isinstance(each, str) for each in value):
            raise BadFrame
    return Shape(**found)


def _restored(number: int, values: list[Any]) -> Verdict:
    kind = _KINDS[number]
    if issubclass(kind, Document):
        values[_MARKS] = tuple(Mark(start, metadata) for start, metadata in values[_MARKS])
    return kind(*values)
