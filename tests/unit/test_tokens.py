import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import word_tokenizer, write_model

from embedfleet_producer import tokens
from embedfleet_producer.tokens import TokenCounter, counter_for
from embedfleet_schema.errors import ModelNotFound
from embedfleet_schema.spaces import resolve_space
from embedfleet_schema.types import Chunking, Space

MINILM = "all-MiniLM-L6-v2"


@pytest.fixture(scope="module")
def minilm() -> TokenCounter:
    return counter_for(resolve_space(MINILM), Chunking())


def test_a_model_counts_with_its_own_tokenizer_without_special_tokens(minilm):
    assert minilm.count(["hello world", "", "tokenization"]) == [2, 0, 2]
    assert minilm.special_tokens == 2


def test_a_long_text_is_counted_to_its_end(minilm):
    assert minilm.count(["word " * 10_000]) == [10_000]


def test_the_counts_equal_those_of_encoding_one_by_one(minilm):
    texts = [f"Item {n}: naïve café, {'x' * n} 👍🏽" for n in range(100)]
    expected = [len(minilm.tokenizer.encode(text, add_special_tokens=False)) for text in texts]

    assert expected == minilm.count(texts)


def test_texts_are_encoded_in_bounded_batches(monkeypatch):
    monkeypatch.setattr(tokens, "_CHARACTERS_AT_ONCE", 10)
    texts = ["a b c d e f", "g", "", "h i j k l m n", "o"]

    assert [["a b c d e f"], ["g", "", "h i j k l m n"], ["o"]] == list(tokens._batches(texts))
    assert [6, 1, 0, 7, 1] == TokenCounter(word_tokenizer()).count(texts)


def test_nothing_is_counted_in_no_texts(minilm):
    assert minilm.count([]) == []


def test_the_fake_model_counts_marks_and_sixteen_letters_each_as_a_token():
    counter = counter_for(resolve_space("fake/8"), Chunking())

    assert counter.count(["Hello, world!!", "x" * 33, " \n", "日本語 text", "a_b"]) == [
        5,
        3,
        0,
        2,
        1,
    ]
    assert counter.special_tokens == 0


@given(st.lists(st.text(), max_size=5))
def test_the_fake_model_counts_something_in_all_that_is_not_whitespace(texts):
    counts = counter_for(Space("fake", "8", 8, 512), Chunking()).count(texts)

    assert all(count > 0 for text, count in zip(texts, counts, strict=True) if text.strip())


@pytest.mark.parametrize("form", ["{0}", "{0}/tokenizer.json", "local/{0}"])
def test_the_chunking_can_name_another_tokenizer(form, tmp_path):
    named = form.format(write_model(tmp_path))
    counter = counter_for(resolve_space(MINILM), Chunking(tokenizer=named))

    assert counter.count(["tokenization"]) == [1]


def test_a_fake_space_can_count_with_a_real_tokenizer():
    counter = counter_for(resolve_space("fake/8"), Chunking(tokenizer=MINILM))

    assert counter.count(["tokenization"]) == [2]


def test_a_counter_is_made_once_per_name():
    space = resolve_space("fake/8")

    assert counter_for(space, Chunking()) is counter_for(space, Chunking(size=5))


def test_a_file_that_is_no_tokenizer_is_named(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")

    with pytest.raises(ModelNotFound, match=r"tokenizer\.json is not a tokenizer"):
        counter_for(Space("fake", "8", 8, 512), Chunking(tokenizer=str(path)))


def test_an_api_model_without_a_local_tokenizer_says_what_to_do():
    with pytest.raises(ModelNotFound, match="name a local one in the chunking"):
        counter_for(Space("openai", "text-embedding-3-small", 1536, 8191), Chunking())
