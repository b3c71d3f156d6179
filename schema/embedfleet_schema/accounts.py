"""The account that an API key stands for, without the key."""

from __future__ import annotations

import hashlib

_PREFIX = "embedfleet account"


def account_of(api_key: str, base_url: str) -> str:
    """Sixteen hexadecimal digits that tell accounts apart and give nothing away.

    Keys have far more entropy than could be searched through, so a plain hash hides them; the
    address is part of it, because limits of two servers are never shared.
    """
    hashed = hashlib.sha256("\0".join((_PREFIX, base_url.rstrip("/"), api_key)).encode())
    return hashed.hexdigest()[:16]
