"""Loopback ports for the servers."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

LOOPBACK = "127.0.0.1"
# Below the ports that systems hand out to outgoing connections: a stopped server finds its port
# free when it comes back, and workers that know the old address reconnect.
OWN_PORTS = range(20_000, 32_000)
CANDIDATES = 5


def candidates(preferred: int | None) -> Iterator[int]:
    """A few free ports, the preferred one first."""
    if preferred is not None and is_free(preferred):
        yield preferred
    for _ in range(CANDIDATES):
        yield _free_port()


def is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the servers do: connections that linger in TIME_WAIT are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    for _ in range(len(OWN_PORTS)):
        port = secrets.choice(OWN_PORTS)
        if is_free(port):
            return port
    raise OSError(f"no port between {OWN_PORTS.start} and {OWN_PORTS.stop} is free")


def port_of(url: str) -> int | None:
    """The port in a URL; None where there is none in it, or none that is a number."""
    try:
        return urlsplit(url).port
    except ValueError:
        return None
