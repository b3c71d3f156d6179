"""Texts in Unicode: whether they are, and the same letters composed (NFC) or taken apart (NFD).

Most systems compose an accent with its letter, macOS may take the two apart. They look alike, and
are different texts to PostgreSQL.
"""

from __future__ import annotations

from unicodedata import normalize


def is_unicode(text: str) -> bool:
    """Whether the text can be stored: a lone surrogate has no UTF-8 form."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def composed(text: str) -> str:
    """The text as most systems write it."""
    return normalize("NFC", text)


def unicode_forms(text: str) -> tuple[str, ...]:
    """The text as it is, composed, and taken apart; each once."""
    return tuple(dict.fromkeys((text, composed(text), normalize("NFD", text))))
