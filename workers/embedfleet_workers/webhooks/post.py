"""One POST to a URL that somebody else chose: where it goes is checked, and how long it takes."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import SplitResult

from embedfleet_schema.webhook_urls import check_webhook, is_public

# From the first byte sent to the last byte of the answer's headers.
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
    reached: list[socket.socket] = []
    try:
        with _cut_off(reached, timeout_s):
            return _answered(parts, host, body, headers, private, timeout_s, reached)
    except ssl.SSLCertVerificationError as error:
        raise NotSent(f"the certificate of {host} is not valid: {error.verify_message}") from None
    except TimeoutError:
        raise NotSent(f"{host} did not answer within {timeout_s:g} s") from None
    except (OSError, HTTPException) as error:
        raise NotSent(f"{host} cannot be reached: {type(error).__name__}") from None
    finally:
        for each in reached:
            each.close()


def _answered(
    parts: SplitResult,
    host: str,
    body: bytes,
    headers: Mapping[str, str],
    private: bool,
    timeout_s: float,
    reached: list[socket.socket],
) -> int:
    """The status of the answer; each socket that is opened is put into `reached` at once."""
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    plain = _connected(_addresses(host, port, private=private), timeout_s)
    reached.append(plain)
    connection = HTTPSConnection(host, port) if secure else HTTPConnection(host, port)
    # It must not look the name up again.
    connection.auto_open = 0
    connection.sock = plain
    if secure:
        context = ssl.create_default_context()
        connection.sock = encrypted = context.wrap_socket(
            plain, server_hostname=host, do_handshake_on_connect=False
        )
        reached.append(encrypted)
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


@contextmanager
def _cut_off(reached: list[socket.socket], timeout_s: float) -> Iterator[None]:
    """End the connection when time is up: the time limit of a socket is one for each byte."""
    is_over = threading.Event()

    def cut() -> None:
        is_over.set()
        for each in reached:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(timeout_s, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, HTTPException):
        if is_over.is_set():
            raise TimeoutError from None
        raise
    finally:
        timer.cancel()
