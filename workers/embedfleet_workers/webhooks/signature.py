"""How a webhook is signed: Standard Webhooks, https://www.standardwebhooks.com."""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from collections.abc import Sequence
from hashlib import sha256

from embedfleet_schema.setting_types import SECRET_PREFIX


def keys_of(secrets: str) -> list[bytes]:
    """The keys in a setting of secrets, which are separated by spaces."""
    return [b64decode(word.removeprefix(SECRET_PREFIX)) for word in secrets.split()]


def signed_headers(
    number: str, timestamp: int, body: bytes, keys: Sequence[bytes]
) -> dict[str, str]:
    """The headers that prove who sends a body, and when: a signature by each key."""
    content = f"{number}.{timestamp}.".encode() + body
    signatures = (b64encode(hmac.digest(key, content, sha256)).decode() for key in keys)
    return {
        "webhook-id": number,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
