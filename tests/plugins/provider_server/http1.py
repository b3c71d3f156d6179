"""As much of HTTP/1.1 as clients of an embeddings API use: bodies with a length, keep-alive."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Literal

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_KEY = re.compile(rb"\r\nauthorization: *Bearer +([^\r]*)", re.IGNORECASE)
_NO_LINGER = struct.pack("ii", 1, 0)
DRIPS = 50


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    key: str
    body: bytes


@dataclass(slots=True)
class Reply:
    """What is sent, when, and how; `ended` hears after how long, and whether the client left."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    after_s: float = 0.0
    manner: Literal["whole", "drip", "reset", "silence"] = "whole"
    drip_s: float = 0.0
    ended: Callable[[float, bool], None] = field(default=lambda _seconds, _left: None)


class Connection(asyncio.Protocol):
    """One client's connection; its requests are answered one after the other."""

    def __init__(self, answer: Callable[[Request], Reply]) -> None:
        self._answer = answer
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()
        self._reply: Reply | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._since = 0.0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._timer is not None:
            self._timer.cancel()
        self._end(left=True)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._reply is None:
            self._serve()

    def _serve(self) -> None:
        request = self._take()
        if request is None:
            return
        self._since = self._loop.time()
        self._reply = reply = self._answer(request)
        if reply.after_s > 0:
            self._timer = self._loop.call_later(reply.after_s, self._send)
        else:
            self._send()

    def _take(self) -> Request | None:
        """The next request, once it is there as a whole."""
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = bytes(self._received[:end])
        length = _LENGTH.search(head)
        body_end = end + 4 + (int(length[1]) if length else 0)
        if len(self._received) < body_end:
            return None
        method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
        key = _KEY.search(head)
        body = bytes(self._received[end + 4 : body_end])
        del self._received[:body_end]
        return Request(method, path, key[1].decode() if key else "", body)

    def _send(self) -> None:
        reply = self._reply
        assert reply is not None
        match reply.manner:
            case "whole":
                self._transport.write(_head(reply) + reply.body)
                self._end(left=False)
            case "drip":
                self._transport.write(_head(reply))
                self._drip(0)
            case "reset":
                self._end(left=False)
                connection: socket.socket = self._transport.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
                self._transport.abort()
            case "silence":
                self._end(left=False)
                self._transport.abort()

    def _drip(self, sent: int) -> None:
        reply = self._reply
        assert reply is not None
        piece = -(-len(reply.body) // DRIPS)
        self._transport.write(reply.body[sent : sent + piece])
        if sent + piece < len(reply.body):
            self._timer = self._loop.call_later(reply.drip_s / DRIPS, self._drip, sent + piece)
        else:
            self._end(left=False)

    def _end(self, *, left: bool) -> None:
        reply, self._reply, self._timer = self._reply, None, None
        if reply is None:
            return
        reply.ended(self._loop.time() - self._since, left)
        if not left:
            self._serve()


def _head(reply: Reply) -> bytes:
    lines = [f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in reply.headers.items()]
    lines += [f"content-length: {len(reply.body)}", "", ""]
    return "\r\n".join(lines).encode()
