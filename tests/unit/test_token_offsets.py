"""One reading of a text tells the tokens of every piece that is cut out of it."""

import tracemalloc
from functools import cache
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from embedfleet_producer import token_offsets
from embedfleet_producer.ruler import Ruler
from embedfleet_producer.token_offsets import TokenOffsets, parts_of
from embedfleet_producer.tokens import Cl100kCounter, FileCounter, TokenCounter, counter_for
from embedfleet_schema.catalogue.space_lookup import resolve_space
from embedfleet_schema.types import Chunking

# What normalizers change, join, take away or move, and what tokenizers have for themselves.
MARKS = [
    *"aZ9 .,-_[]#\n\t\r\x0b\x1c\x85\u00a0\u2003\u3000\u200b\u0301\u0338=",
    *["[SEP]", "[CLS", "Straße", "ﬁ", "각", "漢字", "สวัสดี", "नि", "مرحبا", "👍🏽", "e\u0327\u0301"],
    *["word ", "words. ", "x" * 120, "\r\n", " \u0301", "ǰ", "İ", "ΣΑΣ"],
]
TEXTS = st.lists(st.sampled_from(MARKS), max_size=40).map("".join) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=80
)
KINDS = ["bert", "cased", "fake", "cl100k", "metaspace", "bytes"]


@cache
def counter(kind: str) -> TokenCounter:
    if kind == "bert":
        return counter_for(resolve_space("all-MiniLM-L6-v2"), Chunking())
    if kind == "fake":
        return counter_for(resolve_space("fake/8"), Chunking())
    if kind == "cl100k":
        return Cl100kCounter()
    if kind == "metaspace":
        tokenizer = Tokenizer(models.Unigram([("<unk>", -9.0), ("▁", -1.0), ("a", -1.0)], 0))
        tokenizer.normalizer = normalizers.NFKC()
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        return FileCounter(tokenizer)
    if kind == "bytes":
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        tokenizer = Tokenizer(models.BPE({mark: n for n, mark in enumerate(alphabet)}, []))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        return FileCounter(tokenizer)
    return FileCounter(word_pieces())


def word_pieces() -> Tokenizer:
    """BERT's way for texts whose case and accents count, with a vocabulary of letters."""
    letters = [*"aZ9.,-_[]#=eﬁ漢字", "word", "##s", "[UNK]", "[SEP]"]
    vocabulary = {token: n for n, token in enumerate(dict.fromkeys(letters))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(["[SEP]"])
    return tokenizer


@given(TEXTS, st.sampled_from(KINDS))
def test_tokens_end_in_the_order_of_the_text_and_within_it(text, kind):
    (offsets,) = counter(kind).offsets([text])
    ends = offsets.ends.tolist()

    assert ends == sorted(ends)
    assert all(0 <= end <= len(text) for end in ends)
    assert [len(ends)] == [reading.tokens for reading in counter(kind).read([text])]


@given(TEXTS, st.sampled_from(KINDS), st.integers(4, 30), st.data())
def test_what_is_said_of_a_piece_is_what_the_tokenizer_says_of_it_alone(text, kind, longest, data):
    places = st.integers(0, len(text))
    cuts = [tuple(sorted((data.draw(places), data.draw(places)))) for _ in range(8)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(token_offsets, "_LONGEST_PART", longest)
        (offsets,) = counter(kind).offsets([text])

    alone = counter(kind).read([text[start:end] for start, end in cuts])
    for said, expected in zip(offsets.readings(cuts), alone, strict=True):
        assert said in (None, expected)


@pytest.mark.parametrize("kind", ["bert", "fake"])
def test_pieces_between_words_need_no_second_reading(kind):
    text = "Some words, and a word more.\nA second line - and its end."
    (offsets,) = counter(kind).offsets([text])
    cuts = [(0, 11), (5, 27), (29, len(text))]

    assert counter(kind).read([text[a:b] for a, b in cuts]) == offsets.readings(cuts)


@pytest.mark.parametrize("kind", ["cl100k", "metaspace", "bytes"])
def test_where_a_space_belongs_to_the_next_word_only_the_tokenizer_can_tell(kind):
    (offsets,) = counter(kind).offsets(["some words"])

    assert [None] == offsets.readings([(5, 10)])


def test_a_token_of_several_words_leaves_no_place_to_cut_without_reading():
    tokenizer = word_pieces()
    tokenizer.add_tokens([AddedToken("word word", normalized=False)])
    (offsets,) = FileCounter(tokenizer).offsets(["a word word a"])

    assert [None] == offsets.readings([(2, 6)])


def test_a_word_beyond_what_is_read_at_once_is_read_by_itself(monkeypatch):
    monkeypatch.setattr(token_offsets, "_LONGEST_PART", 8)
    (offsets,) = counter("fake").offsets(["a b " + "x" * 16 + " c"])

    assert [None] == offsets.readings([(4, 20)])


def test_a_long_text_is_read_in_parts_that_begin_with_a_space(monkeypatch):
    monkeypatch.setattr(token_offsets, "_LONGEST_PART", 8)

    text = "one two three four"
    assert ["one two", " three", " four"] == [text[part] for part in parts_of(text)]
    assert [slice(0, 8), slice(8, 10)] == parts_of("x" * 10)
    assert [] == parts_of("")


@given(TEXTS, st.integers(1, 12))
def test_parts_make_the_text(text, longest):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(token_offsets, "_LONGEST_PART", longest)
        parts = parts_of(text)

    assert text == "".join(text[part] for part in parts)
    assert all(before.stop == part.start for before, part in pairwise(parts))
    assert all(0 < part.stop - part.start <= longest for part in parts)


def test_a_window_of_a_long_text_is_looked_up_without_a_copy_of_its_tokens():
    ends = np.arange(1, 1_000_001, dtype=np.int32)
    offsets = TokenOffsets("x" * 1_000_000, ends, ends[:0], "")
    tracemalloc.start()
    try:
        assert [1, 2, 3] == offsets.within(500, 503)
        assert [None] == offsets.readings([(500, 503)])
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 100_000


@pytest.mark.parametrize("kind", KINDS)
def test_a_ruler_knows_whether_a_piece_of_whole_words_fits(kind):
    words = Random(7).choices(["One", "sentence.", "Two", "words;", "漢字", "lines"], k=400)
    text = " ".join(words)
    (offsets,) = counter(kind).offsets([text])
    ruler = Ruler(offsets, counter(kind), limits=[30])
    ruler.lay(0, text)
    pieces = [" ".join(words[n : n + m]) for n in range(0, 380, 7) for m in range(1, 20)]

    assert [ruler(piece) > 30 for piece in pieces] == [
        reading.tokens > 30 for reading in counter(kind).read(pieces)
    ]
