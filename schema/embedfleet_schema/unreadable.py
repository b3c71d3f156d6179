"""What a tokenizer cannot read: it has one token for all that is unknown to it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from tokenizers import Tokenizer

# A text of which a model sees so little has the vector of any other such text.
UNREADABLE_SHARE = 0.9

_UNIGRAM_UNKNOWN = re.compile(rb'"unk_id":(\d+)')


def unread_reason(model: str) -> str:
    """Why a question is refused whose words a model does not know."""
    return f"{model} has no tokens for its words; use a model for its language or script"


class Unread(NamedTuple):
    """A place that became one unknown token, and its length as the tokenizer sees it."""

    start: int
    end: int
    length: int


def unknown_id(tokenizer: Tokenizer) -> int | None:
    """The id of the token for the unknown, where the tokenizer has one."""
    model = tokenizer.model
    name = getattr(model, "unk_token", None)
    if name is not None:
        found: int | None = tokenizer.token_to_id(name)
        return found
    # Unigram models tell it in their state alone. A token of that name has its quotes escaped.
    match = _UNIGRAM_UNKNOWN.search(model.__getstate__()) if _is_unigram(tokenizer) else None
    return int(match[1]) if match else None


def word_limit(tokenizer: Tokenizer) -> int | None:
    """From how many characters on a word is unknown, whatever is in it (WordPiece)."""
    limit: int | None = getattr(tokenizer.model, "max_input_chars_per_word", None)
    return limit


def is_surely_read(text: str, tokens: int, unknown: int) -> bool:
    """Whether more than a tenth of a text is known, as can be told without looking where.

    Each token that is known, but for those of punctuation, has a letter or a digit at least.
    """
    letters = sum(map(str.isalnum, text))
    others = len("".join(text.split())) - letters
    return tokens - unknown - others > (1 - UNREADABLE_SHARE) * letters


def unread_share(text: str, tokens: int, unread: Sequence[Unread]) -> float:
    """How much of a text's letters and digits the tokenizer does not know, from 0 to 1.

    Of a text without any, such as a row of emoji, its tokens tell.
    """
    if tokens == 0:
        return 1.0
    letters = sum(map(str.isalnum, text))
    if letters == 0:
        return len(unread) / tokens
    return sum(sum(map(str.isalnum, text[place.start : place.end])) for place in unread) / letters


def share_of(tokenizer: Tokenizer, text: str) -> float:
    """How much of a text a tokenizer does not know, from 0 to 1; it neither cuts nor pads."""
    encoding = tokenizer.encode(text, add_special_tokens=False)
    unknown = unknown_id(tokenizer)
    numbers = [number for number, token in enumerate(encoding.ids) if token == unknown]
    places = [Unread(*(encoding.token_to_chars(number) or (0, 0)), 0) for number in numbers]
    return unread_share(text, len(encoding.ids), places)


def _is_unigram(tokenizer: Tokenizer) -> bool:
    return type(tokenizer.model).__name__ == "Unigram"
