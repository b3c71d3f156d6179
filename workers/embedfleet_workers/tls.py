"""Whom the clients of a process trust."""

from __future__ import annotations

import ssl
from functools import cache
from pathlib import Path

from embedfleet_schema.errors import BadSettings


@cache
def tls_context(ca_file: Path | None = None) -> ssl.SSLContext:
    """The certificates of the machine, or of SSL_CERT_FILE, and of `ca_file` beside them; read
    once: each time takes 50 ms.

    Raises:
        BadSettings: `ca_file` cannot be read, or holds no certificate.
    """
    import httpx2

    context = httpx2.create_ssl_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(cafile=ca_file)
        except (OSError, ssl.SSLError) as error:
            reason = f"api_ca_files: {ca_file} holds no certificates that can be read"
            raise BadSettings(reason=reason) from error
    return context
