"""Why is this document not searchable yet? One answer for each thing that it may wait for."""

from __future__ import annotations

from uuid import uuid4

import pytest

import embedfleet as ef
from embedfleet.fleet import Fleet
from embedfleet_schema.store import workers
from embedfleet_schema.store.batches import Batches
from embedfleet_schema.store.workers import WorkerIdentity
from plugins.fleets import WorkerMaker, drain


def long_text(first: str = "") -> str:
    """Enough for several chunks, and for several batches of 64 tokens."""
    return first + " ".join(f"Sentence number {n} says something." for n in range(300))


@pytest.fixture
def batches(fleet: Fleet) -> Batches:
    """The store as a worker on host alpha sees it."""
    worker = WorkerIdentity(uuid4(), "alpha", 4711, ["cpu"], 1, "cpu", "0", heartbeat_seconds=15)
    with fleet.db.transaction() as conn:
        workers.register(conn, worker)
        # It beats no more, and is alive for the test all the same.
        conn.execute("UPDATE embedfleet.worker SET last_seen = now() + interval '1 minute'")
    return Batches(fleet.db, owner=worker.id, lease_seconds=60)


def change(fleet: Fleet, statement: str) -> None:
    with fleet.db.transaction() as conn:
        conn.execute(statement)


def test_a_live_document_is_said_to_be_live(docs, worker: WorkerMaker):
    docs.enqueue([ef.Document("a", "some text")])
    drain(worker())
    found = docs.explain("a")
    assert ("live", True, 1, 1) == (found.state, found.searchable, found.chunks, found.stored)
    assert "'a' is live: version 1, 1 chunk, all of them embedded." == str(found)


def test_an_unknown_key_is_said_to_be_unknown(docs):
    found = docs.explain("nowhere")
    assert ("unknown", False) == (found.state, found.searchable)
    assert "There is no document 'nowhere' in docs" in str(found)


def test_a_document_that_was_not_accepted_is_explained_by_its_code(docs):
    docs.enqueue([ef.Document("a", "")])
    found = docs.explain("a")
    assert ("rejected", "EMPTY") == (found.state, found.rejection.code)
    assert "'a' was rejected: EMPTY: " in str(found)


def test_a_live_document_whose_change_was_not_accepted_says_both(docs, worker: WorkerMaker):
    docs.enqueue([ef.Document("a", "some text")])
    drain(worker())
    docs.enqueue([ef.Document("a", "nul \0 byte")])
    said = str(docs.explain("a"))
    assert "is live: version 1" in said
    assert "A later document with this key was rejected: NUL_BYTE: " in said


def test_without_a_worker_the_answer_is_to_start_one(docs):
    docs.enqueue([ef.Document("a", "some text")])
    said = str(docs.explain("a"))
    assert "'a' is not searchable yet: 0 of 1 chunk embedded." in said
    assert "waits for a worker." in said
    assert "No worker serves queue cpu. Start one: embedfleet worker --queue cpu" in said


def test_a_batch_in_the_queue_tells_how_many_come_first(docs, batches):
    docs.enqueue([ef.Document("a", long_text()), ef.Document("b", "the last one")])
    found = docs.explain("b")
    (batch,) = found.batches
    assert batch.ahead > 1
    assert f"waits for a worker, {batch.ahead} batches before it." in str(found)
    assert "No worker" not in str(found)


def test_where_very_many_come_first_they_are_not_counted_to_the_last(docs, batches, fleet):
    docs.enqueue([ef.Document("a", "some text")], lane="bulk")
    change(
        fleet,
        "INSERT INTO embedfleet.batch (job_id, collection_id, space_id, queue, state, run_after,"
        " chunks, tokens, texts) SELECT 1, 1, 1, 'cpu', 'pending', now() - interval '1 h', 1, 5,"
        " '{}' FROM generate_series(1, 3000)",
    )
    found = docs.explain("a")
    assert 1_001 == found.batches[0].ahead
    assert "waits for a worker, more than 1,000 batches before it." in str(found)


def test_a_leased_batch_names_its_worker(docs, batches, fleet):
    docs.enqueue([ef.Document("a", "some text")])
    lease = batches.claim("cpu")
    change(fleet, "UPDATE embedfleet.batch SET leased_at = now() - interval '8 seconds'")
    found = docs.explain("a")
    (batch,) = found.batches
    assert batch.leased_s >= 8
    said = f"Batch {lease.id} (with 1 text of it) has been leased to worker alpha:4711 for"
    assert f"{said} {batch.leased_s:.0f} s." in str(found)
    assert "silent" not in str(found)


def test_a_leased_batch_of_a_silent_worker_says_when_another_takes_it(docs, batches, fleet):
    docs.enqueue([ef.Document("a", "some text")])
    batches.claim("cpu")
    change(fleet, "UPDATE embedfleet.worker SET last_seen = now() - interval '2 minutes'")
    said = str(docs.explain("a"))
    (until,) = (batch.lease_until for batch in docs.explain("a").batches)
    assert f"at {until.astimezone():%H:%M:%S}." in said
    assert "That worker sends no heartbeat" in said


def test_a_batch_that_was_put_off_says_until_when_and_why(docs, batches):
    docs.enqueue([ef.Document("a", "some text")])
    batches.defer(batches.claim("cpu"), delay_s=90, reason="the provider asks to wait.")
    found = docs.explain("a")
    (batch,) = found.batches
    assert (
        f"waits until {batch.not_before.astimezone():%H:%M:%S}, "
        "because attempt 1 ended with: the provider asks to wait." in str(found)
    )


def test_a_document_of_a_paused_job_names_the_job(docs):
    job = docs.enqueue([ef.Document("a", "some text")])
    job.pause()
    said = str(docs.explain("a"))
    assert (
        f"is held because job {job.id} is paused. Go on with: embedfleet resume {job.id}." in said
    )


def test_a_document_of_a_cancelled_job_is_to_be_enqueued_again(docs):
    job = docs.enqueue([ef.Document("a", "some text")])
    job.cancel()
    found = docs.explain("a")
    assert (1, True) == (found.uncovered, found.cancelled)
    assert f"Job {job.id} was cancelled before 1 text of it had a vector." in str(found)
    assert "Enqueue the document again." in str(found)


def test_a_document_that_nothing_works_on_is_to_be_repaired(docs, fleet):
    docs.enqueue([ef.Document("a", "some text")])
    change(fleet, "DELETE FROM embedfleet.batch")
    assert "1 text of it waits in no batch" in str(docs.explain("a"))
    assert "embedfleet audit docs --repair" in str(docs.explain("a"))


def test_a_document_that_is_whole_and_not_live_is_to_be_repaired(docs, fleet, worker: WorkerMaker):
    docs.enqueue([ef.Document("a", "some text")])
    drain(worker())
    change(fleet, "UPDATE embedfleet._documents_1 SET live_version = NULL")
    assert "Everything is embedded, but the document is not live." in str(docs.explain("a"))
    docs.audit(repair=True)
    assert "live" == docs.explain("a").state


def test_a_changed_document_is_served_in_its_old_version(docs, worker: WorkerMaker):
    docs.enqueue([ef.Document("a", long_text())])
    drain(worker())
    docs.enqueue([ef.Document("a", long_text("A new beginning. "))])
    found = docs.explain("a")
    assert ("waiting", True, 2, 1) == (
        *(found.state, found.searchable),
        *(found.version, found.live_version),
    )
    done = f"{found.stored} of {found.chunks} chunks embedded."
    assert f"'a' is served in version 1; of version 2, {done}" in str(found)


def test_a_chunk_that_failed_is_named_with_code_and_reason(docs, worker: WorkerMaker):
    chunks = ["fine", "also fine", "a poison pill"]
    docs.enqueue([ef.Document("a", chunks=chunks)])
    drain(worker(fake_faults="poison=poison pill"))
    found = docs.explain("a")
    assert ("incomplete", True, [2]) == (
        found.state,
        found.searchable,
        [failure.position for failure in found.failures],
    )
    assert "is live in version 1, without 1 of its 3 chunks." in str(found)
    assert "Chunk 2 failed: INPUT_REJECTED: " in str(found)
    assert "embedfleet retry docs" in str(found)


def test_a_failed_chunk_that_is_tried_again_names_its_batch(docs, batches):
    docs.enqueue([ef.Document("a", "some text")])
    batches.fail(batches.claim("cpu"), code="INPUT_REJECTED", reason="no")
    job = docs.retry()
    found = docs.explain("a")
    (batch,) = found.batches
    assert ("incomplete", job.id) == (found.state, batch.job_id)
    assert "Chunk 0 failed: INPUT_REJECTED: no." in str(found)
    assert f"Batch {batch.id} (with 1 text of it) waits for a worker." in str(found)
    assert "embedfleet retry" not in str(found)
    job.cancel()
    assert "embedfleet retry docs" in str(docs.explain("a"))


def test_a_live_document_that_nothing_makes_whole_is_to_be_repaired(
    docs, fleet, worker: WorkerMaker
):
    docs.enqueue([ef.Document("a", "some text")])
    drain(worker())
    change(fleet, f"DELETE FROM embedfleet.{docs.info.vectors}")
    found = docs.explain("a")
    assert ("incomplete", 1) == (found.state, found.uncovered)
    assert "'a' is live in version 1, without 1 of its 1 chunk." in str(found)
    assert "1 text of it waits in no batch" in str(found)
    assert "embedfleet audit docs --repair" in str(found)
    docs.audit(repair=True)


def test_of_many_batches_and_failures_the_first_are_shown(docs, batches):
    docs.enqueue([ef.Document("a", chunks=[f"chunk {n} {'word ' * 30}" for n in range(20)])])
    for _ in range(5):
        batches.fail(batches.claim("cpu"), code="INPUT_REJECTED", reason="no")
    found = docs.explain("a")
    said = str(found)
    assert len(found.failures) > 3
    assert said.count("failed: INPUT_REJECTED") == 3
    assert f"{len(found.failures) - 3} more failed: embedfleet failures docs." in said
    assert f"The rest is in {len(found.batches) - 3} more batch" in said


def test_the_command_says_it_in_one_line_and_in_json(command, embedded: str):
    said = command("explain", embedded, "a.txt")
    assert (0, "'a.txt' is live: version 1, 1 chunk, all of them embedded.\n") == (
        said.code,
        said.out,
    )
    found = command("explain", embedded, "a.txt", "--json").json
    assert ("live", True, said.out.strip()) == tuple(
        found[name] for name in ("state", "searchable", "explanation")
    )


def test_the_command_ends_with_1_where_there_is_no_such_document(command, embedded: str):
    assert 1 == command("explain", embedded, "nowhere.txt").code


def test_a_rejection_says_where_it_lies(docs, tmp_path, command):
    table = tmp_path / "a.csv"
    table.write_text("id,text\n1,\n")
    docs.enqueue(ef.read_paths([table], options=ef.ReadOptions(source="wiki")))
    docs.enqueue([ef.Document("a", "", source="shop"), ef.Document("b", "text", source="shop")])
    docs.enqueue([ef.Document("b", "other", source="wiki")])
    found = docs.explain("a.csv#2")
    assert str(table) == found.rejection.source
    assert f"It is in {table}. Fix it" in str(found)
    assert "It is in shop. Fix it" in command("explain", "docs", "a").out
    said = str(docs.explain("b"))
    assert "It comes from shop." in said
    assert said.endswith("It is in wiki.")
    assert str(table) == command("explain", "docs", "a.csv#2", "--json").json["rejection"]["source"]
