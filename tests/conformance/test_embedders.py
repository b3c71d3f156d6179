"""What every embedder promises, asked of each of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest

from embedfleet_schema.errors import EmbeddingError, InputAtFault
from embedfleet_schema.model_files import find_model
from embedfleet_schema.spaces import resolve_space
from embedfleet_schema.types import Space
from embedfleet_workers.embedders import load_embedder
from plugins.provider_dialects import DialectServer, access_to

FAKE = resolve_space("fake/384")
# A prompt for queries, which the model itself does not have, so that the kinds can be told apart.
LOCAL = resolve_space("all-MiniLM-L6-v2", query_prompt="query: ")
# Each with a provider's server of its own; OpenAI and Mistral have no kinds but for the prompt.
APIS = [
    Space("openai", "text-embedding-3-small", 1536, 8_192, query_prompt="query: "),
    Space("openai", "text-embedding-3-large", 256, 8_192, query_prompt="query: "),
    Space("openai", "bge-m3", 1024, 8_192, query_prompt="query: "),
    Space("cohere", "embed-v4.0", 1024, 8_192),
    Space("voyage", "voyage-4", 1024, 8_192),
    Space("gemini", "gemini-embedding-001", 768, 2_048),
    Space("jina", "jina-embeddings-v3", 512, 8_192),
    Space("mistral", "codestral-embed", 256, 8_192, query_prompt="query: "),
]
SPACES = [FAKE, LOCAL, *APIS]

each_space = pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)

TEXTS = [
    "Read a zip file.",
    " ",
    "zip",
    "naïve café — ΑΒΓ, 日本語, עברית, 🦜🦜, e\u0301, \x00\ufffd\ufeff",
    "word " * 3_000,
    "x" * 5_000,
    *(
        f"Sentence {n}: " + "the quick brown fox jumps over the lazy dog. " * (n % 7)
        for n in range(12)
    ),
]


@contextmanager
def loaded(space):
    """The embedder of a space, and the provider that it needs."""
    if space not in APIS:
        yield load_embedder(space, device="cpu", threads=2)
        return
    server = DialectServer(space.provider, space.dimensions)
    api = access_to(server)
    yield load_embedder(space, device="cpu", api=api)
    api.close()
    server.close()


@pytest.fixture(scope="module", params=SPACES, ids=lambda space: space.name)
def embedder(request):
    with loaded(request.param) as embedder:
        yield embedder
        embedder.close()


@pytest.fixture(scope="module")
def vectors(embedder):
    return embedder.embed(TEXTS, "document")


def smallest_cosine(one, other):
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float((np.einsum("ij,ij->i", one, other) / lengths).min())


def test_there_is_one_contiguous_float32_row_for_each_text(embedder, vectors):
    assert vectors.shape == (len(TEXTS), embedder.space.dimensions)
    assert vectors.dtype == np.float32
    assert vectors.flags.c_contiguous


def test_vectors_are_finite_and_of_unit_length(vectors):
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_no_texts_give_an_empty_matrix_of_the_right_width(embedder):
    empty = embedder.embed([], "document")
    assert empty.shape == (0, embedder.space.dimensions)
    assert empty.dtype == np.float32
    assert embedder.count_tokens([]) == []


def test_rows_follow_the_order_of_the_texts(embedder, vectors):
    order = np.random.default_rng(7).permutation(len(TEXTS))
    shuffled = embedder.embed([TEXTS[index] for index in order], "document")
    assert smallest_cosine(vectors[order], shuffled) >= 0.99999


def test_a_text_alone_and_among_others_gives_the_same_vector(embedder, vectors):
    alone = np.concatenate([embedder.embed([text], "document") for text in TEXTS[:8]])
    assert smallest_cosine(vectors[:8], alone) >= 0.99999


def test_the_same_call_gives_the_same_vectors(embedder, vectors):
    np.testing.assert_allclose(vectors, embedder.embed(TEXTS, "document"), atol=1e-6)


def test_equal_texts_in_one_call_get_equal_vectors(embedder):
    twins = embedder.embed(["twin", "another text of some more words", "twin"], "document")
    np.testing.assert_allclose(twins[0], twins[2], atol=1e-6)


def test_different_texts_get_different_vectors(embedder):
    one, other = embedder.embed(["read a zip file", "boil an egg"], "document")
    assert float(one @ other) < 0.9


def test_a_query_is_not_embedded_like_a_document(embedder, vectors):
    queries = embedder.embed(TEXTS[:1], "query")
    assert queries.shape == (1, embedder.space.dimensions)
    assert float(queries[0] @ vectors[0]) < 0.9999


def test_tuples_are_taken_like_lists(embedder, vectors):
    assert smallest_cosine(vectors[:3], embedder.embed(tuple(TEXTS[:3]), "document")) >= 0.99999


def test_longer_texts_count_more_tokens_and_are_counted_beyond_the_limit(embedder):
    beyond = "word " * 2 * embedder.max_tokens
    short, longer, longest = embedder.count_tokens(["word", "word " * 20, beyond])
    assert 1 <= short < longer < embedder.max_tokens < longest


def test_a_text_that_is_no_unicode_is_the_inputs_own_fault(embedder):
    with pytest.raises(InputAtFault):
        embedder.embed(["fine", "half a pair: \ud83e"], "document")


def test_an_empty_text_has_a_vector_or_is_the_inputs_own_fault(embedder):
    try:
        assert embedder.embed(["zip", ""], "document").shape == (2, embedder.space.dimensions)
    except InputAtFault:
        assert embedder.embed(["zip"], "document").shape == (1, embedder.space.dimensions)


def test_three_threads_get_their_own_rows(embedder, vectors):
    orders = [np.random.default_rng(seed).permutation(len(TEXTS))[:8] for seed in range(6)]
    with ThreadPoolExecutor(3) as threads:
        answers = threads.map(
            lambda order: embedder.embed([TEXTS[index] for index in order], "document"), orders
        )
        for order, answer in zip(orders, answers, strict=True):
            assert smallest_cosine(vectors[order], answer) >= 0.99999


@each_space
def test_a_closed_embedder_closes_again_and_embeds_no_more(space):
    with loaded(space) as embedder:
        embedder.close()
        embedder.close()
        with pytest.raises(EmbeddingError, match="closed"):
            embedder.embed(["too late"], "document")


def test_the_local_vectors_are_those_of_plain_sentence_transformers():
    from sentence_transformers import SentenceTransformer

    directory = str(find_model(LOCAL.model))
    plain = SentenceTransformer(directory, device="cpu", local_files_only=True)
    embedder = load_embedder(LOCAL, device="cpu", threads=2)
    for kind, prompt in (("document", ""), ("query", LOCAL.query_prompt)):
        expected = plain.encode(TEXTS, prompt=prompt, batch_size=1, show_progress_bar=False)
        assert smallest_cosine(expected, embedder.embed(TEXTS, kind)) >= 0.99999
    embedder.close()
