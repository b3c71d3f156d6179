"""What is embedded of a content in its context, and the address of that."""

from __future__ import annotations

import hashlib


def embedded_text(content: str, context: str | None) -> str:
    """What is embedded of a content in its context: an empty line stands between them, unless the
    context ends with white space of its own.
    """
    if not context:
        return content
    return f"{context}{content}" if context[-1].isspace() else f"{context}\n\n{content}"


def text_digest(content: str | bytes, context: str | bytes | None = None) -> bytes:
    """SHA-256 of a content as UTF-8, in its context.

    The length of the context keeps ("a", "bc") and ("ab", "c") apart, and the NUL, which no text
    has, a content in a context from any content alone.
    """
    encoded = content.encode() if isinstance(content, str) else content
    if context:
        before = context.encode() if isinstance(context, str) else context
        encoded = b"\0%d:%b%b" % (len(before), before, encoded)
    return hashlib.sha256(encoded).digest()


def text_hash(content: str | bytes, context: str | None = None) -> bytes:
    """By what a collection finds a text again: half of its digest, 16 bytes.

    An index of half the width. What is found is compared: two texts of one hash, which take 2^64
    trials to make, are never taken for each other.
    """
    if not context and isinstance(content, str):
        # Most of all there are.
        return hashlib.sha256(content.encode()).digest()[:16]
    return text_digest(content, context)[:16]
