"""Batches whose answers arrive one by one: each is stored at once, and none is paid for twice."""

from decimal import Decimal

import numpy as np
import pytest

import embedfleet as ef
from embedfleet_schema.store import usage
from embedfleet_schema.store.sweep import sweep
from embedfleet_workers.embedders.protocol import Part, Spent
from embedfleet_workers.embedding_errors import (
    BadAnswer,
    EmbedderBusy,
    EmbeddingError,
    InputAtFault,
)
from plugins.fleets import ask
from plugins.invariants import check
from plugins.pipelines import PartsEmbedder, finish, pipeline_around

STATES = "SELECT state, count(*) FROM embedfleet.batch GROUP BY state ORDER BY state"


@pytest.fixture
def docs(fleet):
    """Five one-word documents, which make one batch."""
    docs = fleet.collection("docs", model="fake/16")
    docs.enqueue([ef.Document(f"d{n}", f"text{n}") for n in range(5)])
    return docs


def stored(fleet, docs):
    return ask(fleet, f"SELECT count(*) FROM embedfleet.{docs.info.vectors}")[0][0]


def raising(at, error):
    """Raises `error` before part `at`, the first time."""
    errors = [error]

    def before(number):
        if number == at and errors:
            raise errors.pop()

    return before


def test_each_part_is_stored_and_searchable_before_the_next_one_comes(fleet, docs):
    seen = []
    embedder = PartsEmbedder(
        docs.info.space,
        2,
        before=lambda _: seen.append(
            (stored(fleet, docs), len(ask(fleet, "SELECT id FROM embedfleet.docs")))
        ),
    )
    pipeline, _ = pipeline_around(fleet, embedder)
    assert ["done"] == finish(fleet, pipeline)
    assert [(0, 0), (2, 2), (4, 4)] == seen
    assert (5, 5) == (stored(fleet, docs), fleet.job(1).status.embedded)
    check(fleet)


def test_a_job_counts_the_parts_of_a_batch_that_goes_on(fleet, docs):
    seen = []

    def look(_number):
        status = fleet.job(1).status
        seen.append((status.queued, status.embedded, status.total))

    pipeline, _ = pipeline_around(fleet, PartsEmbedder(docs.info.space, 2, before=look))
    finish(fleet, pipeline)
    assert [(5, 0, 5), (3, 2, 5), (1, 4, 5)] == seen


def test_the_ledger_has_what_each_answer_says_that_it_cost(fleet, docs):
    pipeline, _ = pipeline_around(fleet, PartsEmbedder(docs.info.space, 2), price=0.02)
    finish(fleet, pipeline)
    (day,) = usage.by_day(fleet.db)
    assert ("fake/16", 3, 5, 50) == (day.model, day.requests, day.texts, day.tokens)
    assert Decimal("0.000001") == day.usd
    assert 0.000001 == fleet.job(1).status.spent_usd


def test_an_answer_of_no_use_is_in_the_ledger_and_nowhere_else(fleet, docs):
    class Wasteful(PartsEmbedder):
        def parts(self, texts, kind, wanted=lambda: True, *more):
            nothing = np.empty((0, docs.info.space.dimensions), dtype=np.float32)
            yield Part([], nothing, Spent(1, 70))
            yield from super().parts(texts, kind, wanted, *more)

    pipeline, _ = pipeline_around(fleet, Wasteful(docs.info.space, 5), price=0.02)
    assert ["done"] == finish(fleet, pipeline)
    (day,) = usage.by_day(fleet.db)
    assert (2, 5, 120, 5) == (day.requests, day.texts, day.tokens, stored(fleet, docs))


def test_an_unknown_price_is_no_price_of_nothing(fleet, docs):
    pipeline, _ = pipeline_around(fleet, PartsEmbedder(docs.info.space, 2))
    finish(fleet, pipeline)
    assert [None] == [day.usd for day in usage.by_day(fleet.db)]


def test_a_process_that_dies_between_two_parts_repeats_only_what_was_not_stored(fleet, docs):
    embedder = PartsEmbedder(docs.info.space, 2)
    dying, _ = pipeline_around(fleet, embedder, failpoints="after_part=raise:#2")
    # A failpoint that raises is an error like others to the pipeline; nothing is settled by hand.
    assert "retry" == dying.run_one("cpu")
    assert (4, 4) == (stored(fleet, docs), len(embedder.sent))
    healthy, _ = pipeline_around(fleet, embedder)
    assert ["done"] == finish(fleet, healthy)
    assert sorted(f"text{n}" for n in range(5)) == sorted(embedder.sent)
    check(fleet)


def test_a_lease_that_ends_in_the_middle_stops_the_answers_and_is_paid_for(fleet, docs):
    def lose(number):
        if number == 1:
            ask(fleet, "UPDATE embedfleet.batch SET lease_until = now() - interval '1 s'")
            sweep(fleet.db)

    embedder = PartsEmbedder(docs.info.space, 2, before=lose)
    pipeline, _ = pipeline_around(fleet, embedder, price=1.0)
    assert "lost" == pipeline.run_one("cpu")
    assert (2, 4, 1) == (stored(fleet, docs), len(embedder.sent), embedder.closed)
    assert [(2, 4, 40)] == [(d.requests, d.texts, d.tokens) for d in usage.by_day(fleet.db)]
    other = PartsEmbedder(docs.info.space, 2)
    healthy, _ = pipeline_around(fleet, other)
    assert ["done"] == finish(fleet, healthy)
    assert 3 == len(other.sent)
    check(fleet)


def test_a_batch_at_fault_is_halved_without_what_is_stored(fleet, docs):
    poison = []

    def answer(texts, vectors):
        if embedder.calls == 2:
            poison.append(texts[0])
        if set(poison) & set(texts):
            raise InputAtFault(reason="no")
        return vectors

    embedder = PartsEmbedder(docs.info.space, 2, answer=answer)
    pipeline, _ = pipeline_around(fleet, embedder)
    # Two texts are stored, the third is poison: three are left.
    assert "split" == pipeline.run_one("cpu")
    halves = ask(fleet, "SELECT cardinality(texts) FROM embedfleet.batch WHERE state = 'pending'")
    assert [(1,), (2,)] == sorted(halves)
    finish(fleet, pipeline)
    status = fleet.job(1).status
    assert (4, 1, 5) == (status.embedded, status.failed, status.total)
    assert ["INPUT_REJECTED"] == [failure.code for failure in docs.failures()]
    assert [1, 1] == [embedder.sent.count(text) for text in embedder.sent[:2]]
    check(fleet)


def test_a_last_text_that_is_at_fault_fails_alone(fleet, docs):
    embedder = PartsEmbedder(
        docs.info.space, 4, before=raising(1, InputAtFault(reason="it is poison"))
    )
    pipeline, _ = pipeline_around(fleet, embedder)
    assert "fail" == pipeline.run_one("cpu")
    status = fleet.job(1).status
    assert ("done", 4, 1) == (status.state, status.embedded, status.failed)
    assert 4 == len(ask(fleet, "SELECT id FROM embedfleet.docs"))


def test_an_answer_that_is_not_usable_spoils_no_other_and_is_paid_for(fleet, docs):
    def answer(_, vectors):
        return np.zeros_like(vectors) if embedder.calls == 2 else vectors

    embedder = PartsEmbedder(docs.info.space, 2, answer=answer)
    pipeline, _ = pipeline_around(fleet, embedder)
    assert "retry" == pipeline.run_one("cpu")
    assert (3, 1) == (stored(fleet, docs), len(usage.by_day(fleet.db)))
    assert [(3, 3, 50)] == [(day.requests, day.texts, day.tokens) for day in usage.by_day(fleet.db)]
    assert [(BadAnswer(reason="row 0 (and 1 more) is a zero vector").args[0],)] == ask(
        fleet, "SELECT reason FROM embedfleet.batch"
    )


@pytest.mark.parametrize("rows", [[0, 0], [7], [-1]])
def test_an_answer_to_texts_that_were_not_asked_for_is_refused(fleet, docs, rows):
    class Confused(PartsEmbedder):
        def parts(self, texts, kind, wanted=lambda: True, *more):
            for part in super().parts(texts, kind, wanted, *more):
                yield type(part)(rows, part.vectors[: len(rows)], part.spent)

    pipeline, _ = pipeline_around(fleet, Confused(docs.info.space, 5))
    assert "retry" == pipeline.run_one("cpu")
    assert 0 == stored(fleet, docs)


def test_texts_without_an_answer_are_missed(fleet, docs):
    class Forgetful(PartsEmbedder):
        def parts(self, texts, kind, wanted=lambda: True, *more):
            yield next(super().parts(texts, kind, wanted, *more))

    pipeline, _ = pipeline_around(fleet, Forgetful(docs.info.space, 2))
    assert "retry" == pipeline.run_one("cpu")
    ((reason,),) = ask(fleet, "SELECT reason FROM embedfleet.batch")
    assert "no answer to 3 of 5 texts" in reason
    assert 2 == stored(fleet, docs)


def test_a_batch_that_has_begun_and_must_wait_keeps_what_it_has(fleet, docs):
    busy = EmbedderBusy(seconds=0.0, reason="the rate limit of fake/16")
    embedder = PartsEmbedder(docs.info.space, 2, before=raising(1, busy))
    pipeline, _ = pipeline_around(fleet, embedder)
    assert "defer" == pipeline.run_one("cpu")
    assert [(0, 2)] == ask(fleet, "SELECT errors, stored FROM embedfleet.batch")
    assert ["done"] == finish(fleet, pipeline)
    assert 5 == len(embedder.sent)


def test_a_document_of_two_parts_goes_live_with_the_later_one(fleet):
    docs = fleet.collection("docs", model="fake/16")
    docs.enqueue([ef.Document("two", chunks=["one", "other"])])
    seen = []
    embedder = PartsEmbedder(
        docs.info.space,
        1,
        before=lambda _: seen.append(len(ask(fleet, "SELECT id FROM embedfleet.docs"))),
    )
    pipeline, _ = pipeline_around(fleet, embedder)
    finish(fleet, pipeline)
    assert [0, 0] == seen
    assert 2 == len(ask(fleet, "SELECT id FROM embedfleet.docs"))


def test_an_error_of_its_own_is_charged_although_parts_were_stored(fleet, docs):
    embedder = PartsEmbedder(docs.info.space, 2, before=raising(2, EmbeddingError(reason="boom")))
    pipeline, _ = pipeline_around(fleet, embedder)
    assert "retry" == pipeline.run_one("cpu")
    assert [(1, 4)] == ask(fleet, "SELECT errors, stored FROM embedfleet.batch")
    assert [("pending", 1)] == ask(fleet, STATES)
    assert 0 < fleet.job(1).status.queued
