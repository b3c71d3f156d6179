"""Answers that are not the vectors of the texts: none reaches a table, and neighbours finish.

A shuffled answer of an embedder cannot be told from a right one: it answers in the order of its
texts, without indexes. Providers of APIs give indexes, and theirs are put right or refused. That
stored vectors are those of their texts is checked after each test of a fake model, and here for the
others.
"""

import numpy as np

import embedfleet as ef
from plugins.api_workers import stored
from plugins.fleets import ask, drain
from plugins.pipelines import ScriptedEmbedder, finish, make_due, pipeline_around
from plugins.provider_dialects import Misdeed, expected_vectors

MARK = "spoilt"
NEIGHBOURS = 15


def with_row(value):
    """An answer whose row of the marked text is filled with `value`."""

    def spoil(vectors, marked):
        vectors[marked] = value
        return vectors

    return spoil


def with_one_value(value):
    def spoil(vectors, marked):
        vectors[marked, 3] = value
        return vectors

    return spoil


WRONG = {
    "too few": lambda vectors, _: vectors[:-1],
    "too many": lambda vectors, _: np.vstack([vectors, vectors[:1]]),
    "none": lambda *_: None,
    "no rows": lambda *_: [],
    "too narrow": lambda vectors, _: vectors[:, :-1],
    "too wide": lambda vectors, _: np.hstack([vectors, vectors[:, :1]]),
    # Base64 of float32 that is read as float64 twice over, or as bytes of another type.
    "a quarter of the width": lambda vectors, _: vectors[:, : vectors.shape[1] // 4],
    "four times the width": lambda vectors, _: np.hstack([vectors] * 4),
    "base64 text": lambda vectors, _: ["AACAPwAAAAA="] * len(vectors),
    "rows of different widths": lambda vectors, _: [[1.0], *[[1.0, 2.0]] * len(vectors)],
    "one long row": lambda vectors, _: vectors.ravel(),
    "whole numbers": lambda vectors, _: (vectors * 100).astype(np.int8),
    "complex numbers": lambda vectors, _: vectors.astype(np.complex64),
    "NaN": with_row(np.nan),
    "one NaN": with_one_value(np.nan),
    "infinity": with_one_value(np.inf),
    "minus infinity": with_one_value(-np.inf),
    "zero": with_row(0.0),
    "not of unit length": with_row(1.0),
}


def test_a_wrong_answer_stores_nothing_and_its_neighbours_finish(fleet):
    for number, (wrong, spoil) in enumerate(WRONG.items()):
        docs = fleet.collection(f"docs{number}", model="fake/16")
        documents = [ef.Document(f"d{n}", f"number {n} of {wrong}") for n in range(NEIGHBOURS)]
        docs.enqueue([*documents, ef.Document("bad", MARK)])
        pipeline, _ = pipeline_around(fleet, ScriptedEmbedder(docs.info.space, spoiling(spoil)))
        finish(fleet, pipeline)
        failures = [(failure.document, failure.code) for failure in docs.failures()]
        assert (wrong, [("bad", "BAD_ANSWER")]) == (wrong, failures)
        assert (wrong, NEIGHBOURS) == (wrong, docs.audit().stored)
        assert [] == ask(fleet, f"SELECT id FROM embedfleet.{docs.name} WHERE document = 'bad'")


def test_an_embedder_that_errs_now_and_then_costs_only_repetitions(fleet, worker):
    for wrong in ("too_few", "too_many", "too_narrow", "nan", "inf", "zero"):
        docs = fleet.collection(f"docs_{wrong}", model="fake/16")
        docs.enqueue(ef.Document(f"d{n}", f"number {n} {wrong}") for n in range(60))
        runtime = worker(fake_faults=f"wrong={wrong};wrong_every=3;latency=0.06")
        outcomes = set()
        while make_due(fleet):
            outcomes |= set(drain(runtime))
        assert (wrong, {"done", "retry"}) == (wrong, outcomes)
        assert (wrong, 60, 0) == (wrong, docs.audit().stored, len(docs.failures()))


def test_a_provider_that_shuffles_doubles_and_mangles_reaches_no_table(fleet, dialect, api_worker):
    spoils = [
        lambda items: items[1].update(index=items[0]["index"]),
        lambda items: items[0].update(index=len(items)),
        lambda items: items[0].pop("index"),
        lambda items: items[0].update(embedding=items[0]["embedding"][:22]),
        lambda items: items[0].update(embedding=[0.0] * 16),
        lambda items: items.pop(),
        lambda items: items.reverse(),
    ]
    # The first three batches are answered wrongly, each in two or three ways, before they are not.
    plan = [Misdeed(spoil=spoil) for spoil in spoils]
    server = dialect("openai", 16)
    server.script(plan[0], plan[1], None, plan[2], plan[3], None, plan[4], plan[5], plan[6])
    docs = fleet.collection("docs", model="openai/text-embedding-3-small", dimensions=16)
    texts = [f"text number {n}" for n in range(20)]
    runtime = api_worker(server, api_requests=1)
    for start in (0, 5, 10, 15):
        docs.enqueue(ef.Document(text, text) for text in texts[start : start + 5])
        assert "done" == runtime.run_one("api")
    contents, vectors = stored(fleet, docs)
    assert sorted(texts) == contents
    expected = expected_vectors(contents, "document", 16)
    np.testing.assert_allclose(expected, vectors, atol=1e-6)
    assert len(server.calls) == 10


def spoiling(spoil):
    """Spoils the answers in which the marked text takes part."""

    def answer(texts, vectors):
        marked = next((n for n, text in enumerate(texts) if MARK in text), None)
        return vectors if marked is None else spoil(vectors, marked)

    return answer
