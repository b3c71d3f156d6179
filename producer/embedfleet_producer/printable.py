"""What a caller gave, in words that PostgreSQL can hold."""

from __future__ import annotations

MAX_KEY_BYTES = 512


def printable(key: object) -> str:
    """A key that PostgreSQL can hold, for reports about one that it cannot."""
    text = (key if isinstance(key, str) else shown(key))[:MAX_KEY_BYTES]
    text = text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
    return text.encode()[:MAX_KEY_BYTES].decode(errors="ignore")


def shown(value: object) -> str:
    """Its `repr`; that may be code of the caller's and fail, or the value is nested too deeply."""
    try:
        return repr(value)
    except Exception:  # noqa: BLE001
        return f"<{type(value).__name__}>"
