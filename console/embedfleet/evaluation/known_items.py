"""Queries where nobody has judged anything: a sentence of a document has to find its document.

The words of such a query stand in what is searched, so the figures are higher than with people's
questions. They tell one setting from another, and a collection that is broken from one that is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import sha256

# Between sentences; lines are sentences of their own.
_ENDS = re.compile(r"(?<=[.!?])\s+|(?<=[\u3002\uff01\uff1f])|\n+")
_LEAST_WORDS, _MOST_WORDS = 5, 40
_MOST_CHARACTERS = 300


def known_items(
    documents: Iterable[tuple[str, list[str]]],
) -> tuple[dict[str, str], dict[str, dict[str, int]]]:
    """A query for each document, given with its chunks, and the judgement that it is relevant.

    The sentence is drawn at random, and is the same one each time. A sentence that several
    documents share is a query for all of them.
    """
    drawn = {key: sentence(key, chunks) for key, chunks in documents if chunks}
    sharing: dict[str, dict[str, int]] = {}
    for key, text in drawn.items():
        sharing.setdefault(text, {})[key] = 1
    return dict(drawn), {key: sharing[text] for key, text in drawn.items()}


def sentence(key: str, chunks: list[str]) -> str:
    """A sentence of a document, drawn by its key; of text without sentences, a piece."""
    fit, longest = [], ""
    for chunk in chunks:
        for part in filter(None, map(str.strip, _ENDS.split(chunk))):
            longest = max(longest, part, key=len)
            if _LEAST_WORDS <= len(part.split()) <= _MOST_WORDS and len(part) <= _MOST_CHARACTERS:
                fit.append(part)
    if not fit:
        return " ".join(longest.split()[:_MOST_WORDS])[:_MOST_CHARACTERS]
    number = int.from_bytes(sha256(key.encode()).digest()[:8])
    return fit[number % len(fit)]
