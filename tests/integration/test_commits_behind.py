"""A slot embeds a batch while the one before is committed."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Event

import pytest

from embedfleet_workers.behind import Behind
from embedfleet_workers.outcomes import Outcome
from plugins.fleets import ask, documents
from plugins.pipelines import ScriptedEmbedder, pipeline_around

STATES = "SELECT state, count(*)::int FROM embedfleet.batch GROUP BY state ORDER BY state"


@pytest.fixture
def threads():
    with ThreadPoolExecutor(1) as threads:
        yield threads


def test_a_batch_is_claimed_and_embedded_while_the_one_before_is_committed(fleet, docs, threads):
    docs.enqueue(documents(40))
    found = []
    with fleet.db.transaction() as held:

        def answer(_, vectors):
            if embedder.calls == 1:
                # Its commit has to wait for this transaction.
                held.execute("SELECT FROM embedfleet.batch WHERE state = 'leased' FOR UPDATE")
            else:
                found.append(ask(fleet, STATES))
                held.rollback()
            return vectors

        embedder = ScriptedEmbedder(docs.info.space, answer)
        pipeline, stats = pipeline_around(fleet, embedder)
        with Behind(threads) as behind:
            outcomes = [pipeline.run_one("cpu", behind) for _ in range(2)]

    assert ["done", "done"] == outcomes == [each.outcome for each in stats]
    assert [[("leased", 2)]] == [[row for row in rows if row[0] != "pending"] for rows in found]
    assert ("done", 2) in ask(fleet, STATES)


def test_a_commit_that_goes_wrong_behind_is_told_and_its_batch_is_tried_again(fleet, docs, threads):
    docs.enqueue(documents(40))
    embedder = ScriptedEmbedder(docs.info.space, lambda _, vectors: vectors)
    pipeline, stats = pipeline_around(fleet, embedder, failpoints="after_embed=raise:#1")
    with Behind(threads) as behind:
        assert ["done", "done"] == [pipeline.run_one("cpu", behind) for _ in range(2)]
    assert "retry" == behind.outcome
    assert ["retry", "done"] == [each.outcome for each in stats]
    assert 0 == docs.audit().extra
    assert {"done", "pending"} == {state for state, _ in ask(fleet, STATES)}


def test_a_worker_tells_of_a_commit_that_went_wrong_behind(docs, worker, monkeypatch):
    monkeypatch.setattr("embedfleet_workers.runtime.STRETCH_S", 600.0)
    docs.enqueue(documents(40))
    assert "retry" == worker(failpoints="after_embed=raise:#1").answer("cpu")
    assert "idle" == worker().answer("cpu")


def test_the_lease_is_kept_until_the_commit_ends_and_the_next_one_waits_for_it(threads):
    ended, order = Event(), []

    def kept(name):
        stack = ExitStack()
        stack.callback(order.append, f"{name} given up")
        return stack

    def slow():
        ended.wait()
        order.append("slow committed")
        return Outcome.DONE

    def quick():
        order.append("quick committed")
        return Outcome.LOST

    with Behind(threads) as behind:
        with kept("slow") as stack:
            assert "done" == behind.start(stack, slow)
        order.append("embedded")
        ended.set()
        with kept("quick") as stack:
            behind.start(stack, quick)
    assert "lost" == behind.outcome
    expected = ["embedded", "slow committed", "slow given up", "quick committed", "quick given up"]
    assert expected == order
