"""Texts whose length is known without a tokenizer."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

# Each of them is one token of cl100k_base, at the start of a text and after a space.
_WORDS = (
    "the of and to in is that it for on with as at by an be this from or have not are but had has "
    "was all they one you we can her there use each which she how their will other about out many "
    "then them these so some would make like him into time look two more write go see number no "
    "way could people my than first water been call who oil its now find long down day did get "
    "come made may part over new sound take only little work know place year live me back give "
    "most very after thing our just name good sentence man think say great where help through "
    "much before line right too mean old any same tell boy follow came want show also around form "
    "three small set put end does another well large must big even such because turn here why ask "
    "went men read need land different home us move try kind hand picture again change off play "
    "spell air away animal house point page letter mother answer found study still learn should "
    "world"
)
WORDS = _WORDS.split()


def texts(seed: object, count: int, sizes: Sequence[int]) -> Iterator[str]:
    """Distinct texts; how many words each has is drawn from `sizes`."""
    drawn = random.Random(repr(seed))
    seen: set[str] = set()
    while len(seen) < count:
        text = " ".join(drawn.choices(WORDS, k=drawn.choice(sizes)))
        if text not in seen:
            seen.add(text)
            yield text
