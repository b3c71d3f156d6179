from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from embedfleet_producer.chunking import Chunker
from embedfleet_producer.tokens import FileCounter, counter_for
from embedfleet_schema.catalogue.space_lookup import resolve_space
from embedfleet_schema.types import Chunk, Chunking, Space
from embedfleet_schema.unreadable import UNREADABLE_SHARE, unread_share

MINILM = resolve_space("all-MiniLM-L6-v2")
# Words of scripts whose letters MiniLM has tokens for, and of those that it has not.
READ = ["Latin ", "Кириллица ", "ελληνικά ", "עברית ", "العربية ", "中文字", "हिन्दी "]
UNREAD = ["สวัสดีครับ ", "ສະບາຍດີ ", "မင်္ဂလာပါ ", "ᓄᓇᕗᑦ ", "ⵜⴰⵎⴰⵣⵉⵖⵜ ", "አማርኛ "]
# Drawn as bytes: hypothesis takes its time for each character of a text.
HASHES = st.builds(
    lambda drawn, odd, upper: (drawn.hex().upper() if upper else drawn.hex())[odd:],
    st.binary(min_size=51, max_size=450),
    st.integers(0, 1),
    st.booleans(),
)


@cache
def minilm(size: int | None = None) -> Chunker:
    chunking = Chunking(size)
    return Chunker(MINILM, chunking, counter_for(MINILM, chunking))


def shares(text: str) -> list[float]:
    return [chunk.unread for chunk in minilm().chunk_many([text])[0]]


@pytest.mark.parametrize("text", [*UNREAD, "👍👍👍", "🦄 🦄", "".join(UNREAD), "สวัสดีครับ."])
def test_a_text_of_unknown_words_is_unreadable(text):
    assert all(share >= UNREADABLE_SHARE for share in shares(text))


@pytest.mark.parametrize(
    "text", [*READ, "OK 👍👍👍👍👍👍👍👍👍👍👍👍", "...", "42", f"{UNREAD[0]} or hello"]
)
def test_a_text_with_words_that_are_known_is_readable(text):
    assert all(share < UNREADABLE_SHARE for share in shares(text))


def test_a_text_without_any_token_is_unreadable():
    assert [[1.0]] == [[chunk.unread for chunk in minilm().prepare([["\u0301"]])[0]]]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(READ + UNREAD) | HASHES, min_size=1, max_size=12))
def test_each_chunk_of_any_script_is_read_or_said_not_to_be(pieces):
    """No chunk is called readable whose tokens are all unknown: its vector is any other's."""
    counter = counter_for(MINILM, Chunking())
    text = "".join(pieces)

    for chunk in minilm().chunk_many([text])[0]:
        (reading,) = counter.read([chunk.chunk.content])
        assert chunk.chunk.content == text[chunk.chunk.start : chunk.chunk.end]
        if reading.tokens == reading.unknown:
            assert chunk.unread >= UNREADABLE_SHARE
        if chunk.unread < UNREADABLE_SHARE:
            assert reading.tokens > reading.unknown


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["", "words before "]), HASHES, st.sampled_from(["", " and after"]))
def test_a_long_word_is_cut_until_the_model_reads_all_of_it(before, word, after):
    text = before + word + after
    chunks = minilm().chunk_many([text])[0]
    readings = counter_for(MINILM, Chunking()).read([chunk.chunk.content for chunk in chunks])

    assert {0} == {reading.unknown for reading in readings}
    assert text.replace(" ", "") == "".join(c.chunk.content for c in chunks).replace(" ", "")
    assert len(chunks) <= len(word) // 100 + 1


def test_two_hashes_do_not_look_alike():
    counter = counter_for(MINILM, Chunking())
    words = ["0123456789abcdef" * 8, "fedcba9876543210" * 8]
    first, second = ([c.chunk.content for c in minilm().chunk_many([w])[0]] for w in words)

    def ids(texts: list[str]) -> list[list[int]]:
        return [counter.tokenizer.encode(text).ids for text in texts]

    assert ids(first) != ids(second)


def test_a_word_that_normalization_makes_too_long_is_cut_too():
    chunks = minilm().chunk_many(["가나다" * 20])[0]

    assert len(chunks) > 1
    assert [0.0] * len(chunks) == [chunk.unread for chunk in chunks]


def test_a_long_word_in_a_script_that_is_not_read_stays_whole():
    word = "สวัสดีครับ" * 40

    assert [word] == [chunk.content for chunk in minilm().chunk(word)]


def test_cutting_a_word_keeps_to_the_size():
    text = "word " * 240 + "0123456789abcdef" * 20 + " word" * 240

    assert all(chunk.tokens <= 254 for chunk in minilm().chunk_many([text])[0])


def test_a_ready_made_chunk_is_left_as_it_is():
    word = "0123456789abcdef" * 8
    (chunk,) = minilm().prepare([[Chunk(word, 5, 133)]])[0]

    assert (Chunk(word, 5, 133), 1.0) == (chunk.chunk, chunk.unread)


def unigram(*, byte_fallback: bool) -> FileCounter:
    vocabulary = [("<unk>", -9.0), ("▁", -1.0), ("a", -1.0), ('"unk_id":7', -3.0)]
    vocabulary += [(f"<0x{byte:02X}>", -5.0) for byte in range(256)] if byte_fallback else []
    tokenizer = Tokenizer(models.Unigram(vocabulary, 0, byte_fallback))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return FileCounter(tokenizer)


def word_level() -> FileCounter:
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "<unk>": 1}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return FileCounter(tokenizer)


def letters() -> FileCounter:
    tokenizer = Tokenizer(models.BPE({"<unk>": 0, "a": 1}, [], unk_token="<unk>"))
    return FileCounter(tokenizer)


@pytest.mark.parametrize("counter", [word_level(), unigram(byte_fallback=False), letters()])
def test_every_kind_of_tokenizer_with_an_unknown_token_tells_it(counter):
    (known, unknown) = counter.read(["aaa" if counter.word_limit else "a", "สวัสดี"])

    assert (0, True) == (known.unknown, unknown.unknown > 0)


@pytest.mark.parametrize("text", [*READ, *UNREAD, "👍", "0123456789abcdef" * 8])
@pytest.mark.parametrize(
    "model", ["bytes", "openai/text-embedding-3-small", "fake/8", "byte fallback"]
)
def test_tokenizers_that_know_every_byte_read_everything(model, text):
    if model == "bytes":
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        tokenizer = Tokenizer(models.BPE({mark: n for n, mark in enumerate(alphabet)}, []))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        counter = FileCounter(tokenizer)
    elif model == "byte fallback":
        counter = unigram(byte_fallback=True)
    else:
        counter = counter_for(resolve_space(model), Chunking())
    space = Space("local", "any", 8, 8_000)
    (chunk,) = Chunker(space, Chunking(0), counter).chunk_many([text])[0]

    assert (text.strip(), 0.0) == (chunk.chunk.content, chunk.unread)


def test_the_share_counts_letters_and_digits():
    counter = counter_for(MINILM, Chunking())
    text = "สวัสดี, 123!"
    (unread,) = counter.unread([text])

    assert pytest.approx(4 / 7) == unread_share(text, 5, unread)
