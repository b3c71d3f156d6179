"""Whom the clients of a process trust."""

from __future__ import annotations

import ssl
from functools import cache


@cache
def tls_context() -> ssl.SSLContext:
    """The certificates of the machine, or of SSL_CERT_FILE, read once: each time takes 50 ms."""
    import httpx2

    return httpx2.create_ssl_context()
