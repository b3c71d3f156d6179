"""Words are tokenised once, and a text that is made of them as if it were read whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_token_offsets import MARKS, TEXTS, counter, word_pieces
from tokenizers import AddedToken

from embedfleet_producer import words
from embedfleet_producer.token_offsets import SPACES, PartTokens
from embedfleet_producer.tokens import FileCounter
from embedfleet_producer.words import WordMemory

KINDS = ["bert", "cased", "fake"]


@pytest.fixture
def learns_all(monkeypatch):
    """Every new word is kept, whether that pays or not."""
    monkeypatch.setattr(words, "_COST_OF_WORD", -1_000)


def read_whole(kind, text):
    """Where the tokens of a text end, and how many it does not know, by the tokenizer alone."""
    encoding = counter(kind).tokenizer.encode(text, add_special_tokens=False)
    ends = np.maximum.accumulate([end for _, end in encoding.offsets] or [0])[: len(encoding)]
    unknown = 0 if kind == "fake" else encoding.tokens.count("[UNK]")
    return ends.tolist(), unknown


@pytest.mark.usefixtures("learns_all")
@given(
    st.lists(TEXTS | st.lists(st.sampled_from([*MARKS, "[UNK]"])).map("".join), max_size=4),
    st.sampled_from(KINDS),
)
def test_a_text_of_remembered_words_has_the_tokens_of_the_whole(texts, kind):
    expected = [read_whole(kind, text) for text in texts]

    for _ in range(2):
        assert [(len(ends), unknown) for ends, unknown in expected] == counter(kind).read(texts)
        offsets = counter(kind).offsets(texts)
        assert [ends for ends, _ in expected] == [each.ends.tolist() for each in offsets]


class Reader:
    """A tokenizer that takes each character for a token, and does not know `?`."""

    def __init__(self):
        self.read = []

    def __call__(self, texts):
        for text in texts:
            self.read.append(text)
            tokens = [n + 1 for n, mark in enumerate(text) if mark not in SPACES]
            yield PartTokens(tokens, [end for end in tokens if text[end - 1] == "?"])


def test_a_word_is_read_once():
    reader = Reader()
    memory = WordMemory(SPACES + ".", reader)
    text = "one two. one two. " * 4

    (found,) = memory.look_up([text])
    assert [(1, 2, 3), (1, 2, 3), (1,)] * 8 == found
    assert [3, 8, 12] == [len(reader.read[0].split()), *map(int, memory.ends(text, found)[[6, 9]])]
    assert [found] == memory.look_up([text])
    assert 1 == len(reader.read)


def test_what_is_new_in_the_main_or_has_unknown_or_long_words_is_left_to_the_tokenizer():
    memory = WordMemory(SPACES, Reader())
    seen = "again and again " * 8

    assert [None] == memory.look_up(["all of it is new"])
    assert [None] == memory.look_up([seen + "what?"])
    assert [None] == memory.look_up([seen + "x" * 100])
    assert [24] == [len(found) for found in memory.look_up([seen]) if found]
    assert [None] == memory.look_up(["again what?"])


@pytest.mark.usefixtures("learns_all")
def test_a_memory_that_is_full_begins_anew(monkeypatch):
    monkeypatch.setattr(words, "MOST_WORDS", 3)
    memory = WordMemory(SPACES, Reader())
    expected = [[(1,), (1, 2)], [(1, 2), (1, 2, 3)], [(1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)]]

    for text, found in zip(["a bb", "bb ccc", "a bb ccc dddd"], expected, strict=True):
        assert [found] == memory.look_up([text])
    assert {"a", "bb", "ccc", "dddd"} == memory._known.keys()


@pytest.mark.parametrize("flag", ["lstrip", "rstrip", "single_word"])
def test_an_added_token_that_looks_around_leaves_no_word_by_itself(flag):
    tokenizer = word_pieces()
    tokenizer.add_tokens([AddedToken("ab", normalized=False, **{flag: True})])
    (offsets,) = FileCounter(tokenizer).offsets(["a ab a"])

    assert [None] == offsets.readings([(2, 4)])
