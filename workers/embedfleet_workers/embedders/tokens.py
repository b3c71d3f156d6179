"""Tokenizing off to the side of the model: in Rust, without the GIL, from any thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from embedfleet_schema.unreadable import share_of
from embedfleet_workers.embedding_errors import InputAtFault

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Features = dict[str, NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class TokenizerTraits:
    """A tokenizer and what transformers knows of it, as values that a file can hold."""

    tokenizer: str
    """The Rust tokenizer as JSON."""
    max_tokens: int
    cut_side: str
    pads_left: bool
    pad_id: int
    pad_type_id: int
    has_types: bool
    splits_specials: bool


def traits_of(tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> TokenizerTraits:
    return TokenizerTraits(
        tokenizer=tokenizer.backend_tokenizer.to_str(),
        max_tokens=max_tokens,
        cut_side=tokenizer.truncation_side,
        pads_left=tokenizer.padding_side == "left",
        pad_id=tokenizer.pad_token_id or 0,
        pad_type_id=tokenizer.pad_token_type_id,
        has_types="token_type_ids" in tokenizer.model_input_names,
        splits_specials=bool(tokenizer.split_special_tokens),
    )


class Tokens:
    """A model's tokenizer, frozen: cuts at `max_tokens`, special tokens included.

    Works on a copy, because the wrapper of transformers sets truncation on the shared Rust
    tokenizer at every call, which panics while another thread is encoding with it.
    """

    def __init__(self, traits: TokenizerTraits) -> None:
        self.traits = traits
        self._padding = {"input_ids": traits.pad_id, "token_type_ids": traits.pad_type_id}
        self._cutting = self._copy()
        self._cutting.enable_truncation(
            traits.max_tokens, strategy="longest_first", direction=traits.cut_side
        )

    def encode(self, texts: Sequence[str]) -> list[Encoding]:
        return encoded(self._cutting, texts)

    def count(self, texts: Sequence[str]) -> list[int]:
        return [len(encoding) for encoding in encoded(self._whole, texts)]

    def unread_share(self, text: str) -> float:
        """How much of a text is unknown, from 0 to 1."""
        try:
            return share_of(self._whole, text)
        except (TypeError, UnicodeEncodeError) as error:
            raise InputAtFault(reason=f"it cannot be tokenized: {error}") from error

    def features(self, encodings: Sequence[Encoding]) -> Features:
        """What a transformer reads, each of shape (len(encodings), longest of them)."""
        features = {
            "input_ids": self._padded([e.ids for e in encodings], self._padding["input_ids"]),
            "attention_mask": self._padded([e.attention_mask for e in encodings], 0),
        }
        if self.traits.has_types:
            types = [e.type_ids for e in encodings]
            features["token_type_ids"] = self._padded(types, self._padding["token_type_ids"])
        return features

    @cached_property
    def _whole(self) -> Tokenizer:
        return self._copy()

    def _copy(self) -> Tokenizer:
        copy = Tokenizer.from_str(self.traits.tokenizer)
        copy.encode_special_tokens = self.traits.splits_specials
        copy.no_padding()
        copy.no_truncation()
        return copy

    def _padded(self, rows: list[list[int]], padding: int) -> NDArray[np.int64]:
        width = max(1, *map(len, rows))
        matrix = np.full((len(rows), width), padding, dtype=np.int64)
        for row, values in zip(matrix, rows, strict=True):
            if self.traits.pads_left:
                row[width - len(values) :] = values
            else:
                row[: len(values)] = values
        return matrix


def encoded(
    tokenizer: Tokenizer, texts: Sequence[str], *, add_special_tokens: bool = True
) -> list[Encoding]:
    """Tokens without their offsets.

    Raises:
        InputAtFault: one of the texts is none.
    """
    try:
        return tokenizer.encode_batch_fast(list(texts), add_special_tokens=add_special_tokens)
    except (TypeError, UnicodeEncodeError) as error:
        raise InputAtFault(reason=f"it cannot be tokenized: {error}") from error
