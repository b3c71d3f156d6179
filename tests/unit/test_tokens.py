import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import word_tokenizer, write_model

from embedfleet_producer import tokens
from embedfleet_producer.tokens import Cl100kCounter, FileCounter, TokenCounter, counter_for
from embedfleet_schema.catalogue import model_files
from embedfleet_schema.catalogue.hub import Hub
from embedfleet_schema.catalogue.space_lookup import resolve_space
from embedfleet_schema.catalogue.vocabulary import cl100k as vocabulary
from embedfleet_schema.errors import ExtraMissing, ModelNotFound
from embedfleet_schema.types import Chunking, Space

MINILM = "all-MiniLM-L6-v2"


def counts(counter: TokenCounter, texts: list[str]) -> list[int]:
    return [reading.tokens for reading in counter.read(texts)]


@pytest.fixture(autouse=True)
def fresh_counters() -> Iterator[None]:
    """Counters are kept for the process; a test with a hub of its own must not leave any."""
    tokens._counter.cache_clear()
    yield
    tokens._counter.cache_clear()


@pytest.fixture
def hub_of(monkeypatch, tmp_path):
    """Makes a hub that has tokenizers of some repositories, and is out of reach for the others."""

    class FilledHub(Hub):
        repositories: tuple[str, ...] = ()

        def cached(self, repository, patterns):
            return write_model(tmp_path) if repository in self.repositories else None

        def download(self, repository, patterns):
            raise ModelNotFound(model=repository, reason="the hub cannot be reached")

    hub = FilledHub()
    monkeypatch.setattr(model_files, "_hub", hub)
    return lambda *names: setattr(hub, "repositories", names)


@pytest.fixture(scope="module")
def minilm() -> TokenCounter:
    return counter_for(resolve_space(MINILM), Chunking())


@pytest.fixture(scope="module")
def cl100k() -> Cl100kCounter:
    return Cl100kCounter()


def test_a_model_counts_with_its_own_tokenizer_without_special_tokens(minilm):
    assert counts(minilm, ["hello world", "", "tokenization"]) == [2, 0, 2]
    assert minilm.special_tokens == 2


def test_a_long_text_is_counted_to_its_end(minilm):
    assert counts(minilm, ["word " * 10_000]) == [10_000]


def test_the_counts_equal_those_of_encoding_one_by_one(minilm):
    texts = [f"Item {n}: naïve café, {'x' * n} 👍🏽" for n in range(100)]
    expected = [len(minilm.tokenizer.encode(text, add_special_tokens=False)) for text in texts]

    assert expected == counts(minilm, texts)


def test_texts_are_encoded_in_bounded_batches(monkeypatch):
    monkeypatch.setattr(tokens, "_CHARACTERS_AT_ONCE", 10)
    texts = ["a b c d e f", "g", "", "h i j k l m n", "o"]

    assert [["a b c d e f"], ["g", "", "h i j k l m n"], ["o"]] == list(tokens._batches(texts))
    assert [6, 1, 0, 7, 1] == counts(FileCounter(word_tokenizer()), texts)


def test_nothing_is_counted_in_no_texts(minilm):
    assert counts(minilm, []) == []


def test_the_fake_model_counts_marks_and_sixteen_letters_each_as_a_token():
    counter = counter_for(resolve_space("fake/8"), Chunking())

    assert counts(counter, ["Hello, world!!", "x" * 33, " \n", "日本語 text", "a_b"]) == [
        5,
        3,
        0,
        2,
        1,
    ]
    assert counter.special_tokens == 0


@given(st.lists(st.text(), max_size=5))
def test_the_fake_model_counts_something_in_all_that_is_not_whitespace(texts):
    found = counts(counter_for(Space("fake", "8", 8, 512), Chunking()), texts)

    assert all(count > 0 for text, count in zip(texts, found, strict=True) if text.strip())


@pytest.mark.parametrize("form", ["{0}", "{0}/tokenizer.json", "local/{0}"])
def test_the_chunking_can_name_another_tokenizer(form, tmp_path):
    named = form.format(write_model(tmp_path))
    counter = counter_for(resolve_space(MINILM), Chunking(tokenizer=named))

    assert counts(counter, ["tokenization"]) == [1]


def test_a_fake_space_can_count_with_a_real_tokenizer():
    counter = counter_for(resolve_space("fake/8"), Chunking(tokenizer=MINILM))

    assert counts(counter, ["tokenization"]) == [2]


def test_a_counter_is_made_once_per_name():
    space = resolve_space("fake/8")

    assert counter_for(space, Chunking()) is counter_for(space, Chunking(size=5))


def test_a_file_that_is_no_tokenizer_is_named(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")

    with pytest.raises(ModelNotFound, match=r"tokenizer\.json is not a tokenizer"):
        counter_for(Space("fake", "8", 8, 512), Chunking(tokenizer=str(path)))


def test_openais_models_are_counted_exactly_and_offline():
    counter = counter_for(resolve_space("openai/text-embedding-3-large"), Chunking())

    assert (False, 0) == (counter.approximate, counter.special_tokens)
    assert [2, 0, 4, 6, 1] == counts(
        counter, ["hello world", "", "日本語", "tiktoken is great!", " " * 80]
    )


def test_what_looks_like_a_special_token_is_counted_as_the_text_that_it_is(cl100k):
    text = "<|endoftext|> and <|fim_prefix|><|endofprompt|>"
    pieces = ["<|endoftext|>", " and", " <|fim_prefix|><|endofprompt|>"]
    alone, whole = counts(cl100k, pieces), counts(cl100k, [text])

    assert [7, 1] == alone[:2]
    assert [sum(alone)] == whole


def test_tokens_that_are_parts_of_characters_end_where_these_end(cl100k):
    (offsets,) = cl100k.offsets(["漢 is 字."])

    assert [1, 1, 4, 6, 7] == offsets.ends.tolist()


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=5))
def test_openais_vocabulary_has_something_for_every_text(cl100k, texts):
    found = counts(cl100k, texts)

    assert [bool(text) for text in texts] == [count > 0 for count in found]
    assert all(count <= len(text.encode()) for text, count in zip(texts, found, strict=True))


def test_a_text_of_millions_of_characters_is_counted(cl100k):
    assert [400_001] == counts(cl100k, ["word, " * 200_000 + "\n"])


def test_a_model_that_keeps_its_tokenizer_to_itself_is_estimated_with_openais():
    counter = counter_for(resolve_space("mistral/mistral-embed"), Chunking())

    assert counter.approximate
    assert [2] == counts(counter, ["hello world"])


def test_a_tokenizer_that_its_provider_publishes_is_used_where_it_is_within_reach(hub_of):
    hub_of("Cohere/Cohere-embed-english-v3.0")
    counter = counter_for(resolve_space("cohere/embed-english-v3.0"), Chunking())

    assert not counter.approximate
    assert [1] == counts(counter, ["tokenization"])


def test_a_model_of_a_compatible_server_is_counted_by_the_repository_of_its_name(hub_of):
    hub_of("BAAI/bge-m3")
    space = resolve_space("openai/BAAI/bge-m3", dimensions=1024)

    assert not counter_for(space, Chunking()).approximate


def test_a_tokenizer_out_of_reach_is_estimated_and_said_once(hub_of, caplog):
    hub_of()
    space = resolve_space("voyage/voyage-3.5")

    assert counter_for(space, Chunking()).approximate
    assert counter_for(space, Chunking()).approximate
    (said,) = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert "tokens of voyage/voyage-3.5 are estimated" in said
    assert "cannot be reached" in said


@pytest.mark.parametrize("model", ["qwen3", "nomic-embed-text:latest", "my-deployment"])
def test_a_name_that_is_no_repository_is_not_looked_up(model):
    space = resolve_space(f"openai/{model}", dimensions=8)

    assert counter_for(space, Chunking()).approximate


@pytest.mark.parametrize("name", ["cl100k_base", "openai/text-embedding-3-small"])
def test_the_chunking_can_name_openais_vocabulary(name):
    space = resolve_space("openai/my-azure-deployment", dimensions=1536)

    assert not counter_for(space, Chunking(tokenizer=name)).approximate


def test_without_the_package_of_the_vocabulary_the_extra_is_named(monkeypatch):
    vocabulary.cache_clear()
    monkeypatch.setitem(sys.modules, "bpe_openai", None)
    with pytest.raises(ExtraMissing, match=r"pip install 'embedfleet\[api\]'"):
        Cl100kCounter()
