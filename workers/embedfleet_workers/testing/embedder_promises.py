"""What every embedder promises, as plain functions: `embedfleet.testing` asks them of each of them,
and `benchmarks/gpu.py` of the local one on a GPU, where there is no pytest.
"""

# ruff: noqa: S101, PLR2004 - these are tests

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from embedfleet_workers.embedders.protocol import Embedder, Rows, Vectors
from embedfleet_workers.embedding_errors import EmbeddingError, InputAtFault

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


class Precision(NamedTuple):
    """What counts as the same vector: the least cosine, and the most by which elements differ."""

    cosine: float
    element: float


FLOAT32 = Precision(0.99999, 1e-6)
# On a GPU in half precision, where the neighbours in a pack decide the order of a sum.
HALF = Precision(0.999, 5e-3)


class Asked(NamedTuple):
    """An embedder with its vectors of TEXTS; whether it embeds queries in a way of their own."""

    embedder: Embedder
    vectors: Vectors
    precision: Precision = FLOAT32
    has_kinds: bool = True

    def same(self, one: Rows, other: Rows) -> bool:
        return smallest_cosine(one, other) >= self.precision.cosine

    def equal(self, one: Rows, other: Rows) -> bool:
        return bool((np.abs(one - other) <= self.precision.element).all())


Promise = Callable[[Asked], None]


def smallest_cosine(one: Rows, other: Rows) -> float:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float((np.einsum("ij,ij->i", one, other) / lengths).min())


def there_is_one_contiguous_float32_row_for_each_text(asked: Asked) -> None:
    assert asked.vectors.shape == (len(TEXTS), asked.embedder.space.dimensions)
    assert asked.vectors.dtype == np.float32
    assert asked.vectors.flags.c_contiguous


def vectors_are_finite_and_of_unit_length(asked: Asked) -> None:
    assert np.isfinite(asked.vectors).all()
    lengths = np.linalg.norm(asked.vectors, axis=1)
    assert (lengths > 0).all()
    if asked.embedder.space.normalized:
        np.testing.assert_allclose(lengths, 1, atol=1e-5)


def no_texts_give_an_empty_matrix_of_the_right_width(asked: Asked) -> None:
    empty = asked.embedder.embed([], "document")
    assert empty.shape == (0, asked.embedder.space.dimensions)
    assert empty.dtype == np.float32
    assert asked.embedder.count_tokens([]) == []


def rows_follow_the_order_of_the_texts(asked: Asked) -> None:
    order = np.random.default_rng(7).permutation(len(TEXTS))
    shuffled = asked.embedder.embed([TEXTS[index] for index in order], "document")
    assert asked.same(asked.vectors[order], shuffled)


def a_text_alone_and_among_others_gives_the_same_vector(asked: Asked) -> None:
    alone = np.concatenate([asked.embedder.embed([text], "document") for text in TEXTS[:8]])
    assert asked.same(asked.vectors[:8], alone)


def the_same_call_gives_the_same_vectors(asked: Asked) -> None:
    assert asked.equal(asked.vectors, asked.embedder.embed(TEXTS, "document"))


def equal_texts_in_one_call_get_equal_vectors(asked: Asked) -> None:
    twins = asked.embedder.embed(["twin", "another text of some more words", "twin"], "document")
    assert asked.equal(twins[:1], twins[2:])


def different_texts_get_different_vectors(asked: Asked) -> None:
    one, other = asked.embedder.embed(["read a zip file", "boil an egg"], "document")
    assert smallest_cosine(one[None], other[None]) < 0.9


def a_query_is_not_embedded_like_a_document(asked: Asked) -> None:
    queries = asked.embedder.embed(TEXTS[:1], "query")
    assert queries.shape == (1, asked.embedder.space.dimensions)
    if asked.has_kinds:
        assert smallest_cosine(queries, asked.vectors[:1]) < 0.9999
    else:
        assert asked.same(asked.vectors[:1], queries)


def tuples_are_taken_like_lists(asked: Asked) -> None:
    assert asked.same(asked.vectors[:3], asked.embedder.embed(tuple(TEXTS[:3]), "document"))


def longer_texts_count_more_tokens_and_are_counted_beyond_the_limit(asked: Asked) -> None:
    limit = asked.embedder.max_tokens
    beyond = "word " * 2 * limit
    short, longer, longest = asked.embedder.count_tokens(["word", "word " * 20, beyond])
    assert 1 <= short < longer < limit < longest


def a_text_that_is_no_unicode_is_the_inputs_own_fault(asked: Asked) -> None:
    try:
        asked.embedder.embed(["fine", "half a pair: \ud83e"], "document")
    except InputAtFault:
        return
    raise AssertionError("it was embedded")


def an_empty_text_has_a_vector_or_is_the_inputs_own_fault(asked: Asked) -> None:
    width = asked.embedder.space.dimensions
    try:
        assert asked.embedder.embed(["zip", ""], "document").shape == (2, width)
    except InputAtFault:
        assert asked.embedder.embed(["zip"], "document").shape == (1, width)


def three_threads_get_their_own_rows(asked: Asked) -> None:
    orders = [np.random.default_rng(seed).permutation(len(TEXTS))[:8] for seed in range(6)]
    with ThreadPoolExecutor(3) as threads:
        answers = threads.map(
            lambda order: asked.embedder.embed([TEXTS[index] for index in order], "document"),
            orders,
        )
        for order, answer in zip(orders, answers, strict=True):
            assert asked.same(asked.vectors[order], answer)


def a_closed_embedder_closes_again_and_embeds_no_more(asked: Asked) -> None:
    """Ask it last."""
    asked.embedder.close()
    asked.embedder.close()
    try:
        asked.embedder.embed(["too late"], "document")
    except EmbeddingError:
        return
    raise AssertionError("it was embedded")


PROMISES: tuple[Promise, ...] = (
    there_is_one_contiguous_float32_row_for_each_text,
    vectors_are_finite_and_of_unit_length,
    no_texts_give_an_empty_matrix_of_the_right_width,
    rows_follow_the_order_of_the_texts,
    a_text_alone_and_among_others_gives_the_same_vector,
    the_same_call_gives_the_same_vectors,
    equal_texts_in_one_call_get_equal_vectors,
    different_texts_get_different_vectors,
    a_query_is_not_embedded_like_a_document,
    tuples_are_taken_like_lists,
    longer_texts_count_more_tokens_and_are_counted_beyond_the_limit,
    a_text_that_is_no_unicode_is_the_inputs_own_fault,
    an_empty_text_has_a_vector_or_is_the_inputs_own_fault,
    three_threads_get_their_own_rows,
)
