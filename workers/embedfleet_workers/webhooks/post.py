"""One POST to a URL that somebody else chose: where it goes is checked, and how long it takes."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Self
from urllib.parse import SplitResult

from embedfleet_schema.webhook_urls import check_webhook, is_public

# From the first look at the name to the last byte of the answer's headers.
TIMEOUT_S = 15.0


class NotSent(Exception):
    """Why a request was not answered; it quotes nothing of the URL but the host."""


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    private: bool,
    timeout_s: float = TIMEOUT_S,
) -> int:
    """Send a body, and return the status of the answer. No redirect is followed, no proxy used.

    The address that was checked is the one that is connected to: a name that leads elsewhere the
    next time makes no difference. The certificate has to be that of the name.

    Raises:
        BadWebhook: no webhook may go to such a URL.
        NotSent: nobody answered in time, or the host is in a private network.
    """
    parts = check_webhook(url, private=private)
    host = parts.hostname or ""
    with _Deadline(timeout_s) as deadline:
        try:
            return _answered(parts, body, headers, private, deadline)
        except ssl.SSLCertVerificationError as error:
            reason = f"the certificate of {host} is not valid: {error.verify_message}"
        except (OSError, HTTPException) as error:
            reason = f"{host} cannot be reached: {type(error).__name__}"
            if deadline.is_over or isinstance(error, TimeoutError):
                reason = f"{host} did not answer within {timeout_s:g} s"
    raise NotSent(reason)


class _Deadline:
    """Ends connections when time is up: the time limit of a socket is one for each byte."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.is_over = False
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._timer = threading.Timer(timeout_s, self._end)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        for each in self._sockets:
            each.close()

    def watch(self, opened: socket.socket) -> None:
        """Raises TimeoutError where time was up before it was opened."""
        with self._lock:
            self._sockets.append(opened)
            if self.is_over:
                raise TimeoutError

    def _end(self) -> None:
        with self._lock:
            self.is_over = True
            for each in self._sockets:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)


def _answered(
    parts: SplitResult,
    body: bytes,
    headers: Mapping[str, str],
    private: bool,
    deadline: _Deadline,
) -> int:
    """The status of the answer."""
    host = parts.hostname or ""
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    plain = _connected(_addresses(host, port, private=private), deadline.timeout_s)
    deadline.watch(plain)
    connection = HTTPSConnection(host, port) if secure else HTTPConnection(host, port)
    # It must not look the name up again.
    connection.auto_open = 0
    connection.sock = plain
    if secure:
        context = ssl.create_default_context()
        connection.sock = encrypted = context.wrap_socket(
            plain, server_hostname=host, do_handshake_on_connect=False
        )
        deadline.watch(encrypted)
        encrypted.do_handshake()
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection.request("POST", target, body, dict(headers))
    return connection.getresponse().status


def _addresses(host: str, port: int, *, private: bool) -> list[tuple[str, int]]:
    """Where the host is; all of its addresses have to be allowed."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [(str(address[0]), int(address[1])) for *_, address in found]
    if not private and not all(is_public(address) for address, _ in addresses):
        raise NotSent(
            f"{host} is in a private network; EMBEDFLEET_WEBHOOK_PRIVATE=true allows that"
        )
    return addresses


def _connected(addresses: list[tuple[str, int]], timeout_s: float) -> socket.socket:
    for address in addresses[:-1]:
        with suppress(OSError):
            return socket.create_connection(address, timeout_s)
    return socket.create_connection(addresses[-1], timeout_s)
