"""What takes long goes in pages, each a transaction of its own, and may be cut off between two."""

import pytest

import embedfleet as ef
from embedfleet_schema.database_errors import DatabaseError
from embedfleet_schema.store import audit, documents, keyset, requeue
from plugins.fleets import ask, drain
from plugins.fleets import documents as small_documents

# Raises once a statement has come to so many rows: what a lost connection does, at a chosen place.
CUT_OFF = """
CREATE FUNCTION public.cut_off() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT count(*) FROM embedfleet.{table} WHERE {condition}) {beyond} THEN
        RAISE EXCEPTION 'cut off';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER cut_off AFTER INSERT OR DELETE ON embedfleet.{table}
EXECUTE FUNCTION public.cut_off();
"""
GO_ON = "DROP FUNCTION public.cut_off() CASCADE"
QUEUED = """
SELECT h.text_id FROM embedfleet.batch AS b CROSS JOIN LATERAL unnest(b.texts) AS h (text_id)
WHERE b.state = 'pending' ORDER BY 1
"""


@pytest.fixture(autouse=True)
def small_pages(monkeypatch):
    monkeypatch.setattr(keyset, "PAGE", 2)
    monkeypatch.setattr(requeue, "TEXTS", 3)
    monkeypatch.setattr(audit, "PAGE", 2)
    monkeypatch.setattr(documents, "CHUNKS_AT_ONCE", 3)
    monkeypatch.setattr(documents, "DELETED_AT_ONCE", 2)
    monkeypatch.setattr(documents, "VERDICTS_AT_ONCE", 2)


def cut_off(fleet, table, condition, beyond):
    ask(fleet, CUT_OFF.format(table=table, condition=condition, beyond=beyond))


def numbers(fleet):
    return [number for (number,) in ask(fleet, QUEUED)]


def transactions(fleet, condition):
    return ask(fleet, f"SELECT count(DISTINCT xmin::text) FROM embedfleet.batch WHERE {condition}")


def test_a_repair_queues_each_missing_text_once_in_many_transactions(fleet, docs, worker):
    docs.enqueue(small_documents(11)).cancel()
    found = docs.audit(repair=True)
    assert 11 == found.missing
    assert list(range(1, 12)) == numbers(fleet)
    assert [(3,)] == transactions(fleet, "state = 'pending'")
    status = fleet.job(found.job_id).status
    assert ("running", 11, 11) == (status.state, status.chunks, status.queued)
    assert docs.audit(repair=True).job_id is None
    drain(worker())
    assert ("done", 11) == (fleet.job(found.job_id).status.state, docs.audit().stored)


def test_a_repair_that_is_cut_off_is_interrupted_and_the_next_one_queues_the_rest(fleet, docs):
    docs.enqueue(small_documents(11)).cancel()
    cut_off(fleet, "batch", "state = 'pending'", "> 1")
    with pytest.raises(DatabaseError, match="cut off"):
        docs.audit(repair=True)
    ask(fleet, GO_ON)
    (first, *_) = fleet.jobs()
    assert [1, 2, 3, 4] == numbers(fleet)
    assert ("interrupted", 4, "repair") == (
        first.status.state,
        first.status.queued,
        first.status.kind,
    )
    assert "embedfleet audit docs --repair" in first.status.reason
    second = docs.audit(repair=True)
    assert (4, 7) == (second.waiting, second.missing)
    assert list(range(1, 12)) == numbers(fleet)
    assert ("running", 7) == (
        fleet.job(second.job_id).status.state,
        fleet.job(second.job_id).status.queued,
    )


def test_a_retry_that_is_cut_off_is_interrupted_and_the_next_one_queues_the_rest(
    fleet, docs, worker
):
    docs.enqueue(small_documents(7))
    drain(worker(fake_faults="poison=number"))
    ids = [(number,) for number in range(1, 8)]
    assert ids == ask(fleet, "SELECT text_id FROM embedfleet.failure ORDER BY 1")
    cut_off(fleet, "batch", "state = 'pending'", "> 1")
    with pytest.raises(DatabaseError, match="cut off"):
        docs.retry()
    ask(fleet, GO_ON)
    assert "embedfleet retry docs" in fleet.jobs()[0].status.reason
    assert [1, 2, 3, 4] == numbers(fleet)
    assert 3 == docs.retry().status.queued
    assert docs.retry() is None
    assert list(range(1, 8)) == numbers(fleet)


def test_a_repair_takes_live_what_is_whole_and_leaves_the_rest(fleet, docs, worker):
    whole = [ef.Document(f"d{n}", chunks=[f"{n} {m}" for m in range(4)]) for n in range(5)]
    docs.enqueue(whole)
    drain(worker())
    docs.enqueue([ef.Document("new", "waits")])
    ask(fleet, "UPDATE embedfleet._documents_1 SET live_version = NULL")
    docs.audit(repair=True)
    assert [("new",)] == ask(
        fleet, "SELECT key FROM embedfleet._documents_1 WHERE live_version IS NULL"
    )


def test_a_repair_removes_old_chunks_and_extra_texts_in_pages(fleet, docs, worker):
    docs.enqueue([ef.Document("a", chunks=[f"text {n}" for n in range(7)])])
    drain(worker())
    ask(
        fleet,
        "INSERT INTO embedfleet._chunks_1 (document_id, version, position, text_id, metadata)"
        " SELECT document_id, 0, position, text_id, '{}' FROM embedfleet._chunks_1",
    )
    ask(fleet, "INSERT INTO embedfleet._texts_1 (hash, tokens, content)"
        " SELECT gen_random_uuid(), 1, 'unused' FROM generate_series(1, 9)")  # fmt: skip
    assert docs.audit(repair=True).job_id is None
    found = docs.audit()
    assert (7, 7, 7, 0) == (found.chunks, found.texts, found.stored, found.extra)
    assert [(7,)] == ask(fleet, "SELECT count(*) FROM embedfleet._texts_1")


def test_documents_of_any_size_are_deleted_with_all_that_was_theirs(fleet, docs, worker):
    sizes = {"one": 1, "two": 2, "three": 3, "large": 11, "stays": 2}
    docs.enqueue(
        [
            ef.Document(key, chunks=[f"{key} {number}" for number in range(size)])
            for key, size in sizes.items()
        ]
    )
    drain(worker())
    gone = docs.delete(["one", "two", "three", "large", "unknown"])
    assert ["large", "one", "three", "two"] == gone
    assert ["stays"] == [each.key for each in docs.documents()]
    found = docs.audit()
    assert (2, 2, 0) == (found.chunks, found.stored, found.extra)
    assert 0 == docs.delete_matching(prefix="l")


def test_a_large_document_whose_removal_is_cut_off_is_seen_by_nobody_and_goes_with_a_repair(
    fleet, docs, worker
):
    docs.enqueue(
        [
            ef.Document("large", chunks=[f"text {number}" for number in range(11)]),
            ef.Document("stays", chunks=["text 3"]),
        ]
    )
    drain(worker())
    cut_off(fleet, "_chunks_1", "true", "< 8")
    with pytest.raises(DatabaseError, match="cut off"):
        docs.delete(["large"])
    ask(fleet, GO_ON)
    assert [("stays",)] == ask(fleet, "SELECT DISTINCT document FROM embedfleet.docs")
    assert 9 == docs.audit().chunks
    assert docs.audit(repair=True).job_id is None
    assert ["stays"] == [each.key for each in docs.documents()]
    found = docs.audit()
    assert (1, 1, 0) == (found.chunks, found.stored, found.extra)


def test_a_large_document_that_is_stored_again_after_its_removal_was_cut_off_is_whole(
    fleet, docs, worker
):
    large = ef.Document("large", chunks=[f"text {number}" for number in range(11)])
    docs.enqueue([large])
    drain(worker())
    cut_off(fleet, "_chunks_1", "true", "< 8")
    with pytest.raises(DatabaseError, match="cut off"):
        docs.delete(["large"])
    ask(fleet, GO_ON)
    docs.enqueue([large])
    drain(worker())
    docs.audit(repair=True)
    assert [("large", 11, True)] == [
        (each.key, each.chunks, each.live) for each in docs.documents()
    ]
    assert [(11,)] == ask(fleet, "SELECT count(*) FROM embedfleet._chunks_1")


def test_what_a_new_version_replaces_is_removed_in_pages(fleet, docs, worker):
    for word in ("old", "new"):
        docs.enqueue([ef.Document("a", chunks=[f"{word} {number}" for number in range(7)])])
        drain(worker())
    found = docs.audit()
    assert (7, 7, 0) == (found.chunks, found.stored, found.extra)
    assert [(7,)] == ask(fleet, "SELECT count(*) FROM embedfleet._texts_1")


def test_verdicts_are_cleared_in_pages(docs):
    docs.enqueue([ef.Document(f"d{number}", "") for number in range(5)])
    assert 5 == docs.clear_failures()
    assert [] == docs.failures()


def test_an_audit_tells_each_text_where_it_stands(fleet, docs, worker):
    docs.enqueue([ef.Document("a", "stored"), ef.Document("b", "refused")])
    drain(worker(fake_faults="poison=refused"))
    docs.enqueue([ef.Document("c", "missing")]).cancel()
    docs.enqueue([ef.Document("d", "waits")])
    ask(
        fleet,
        "INSERT INTO embedfleet._vectors_1_1 (text_id, embedding)"
        " SELECT n, embedding FROM embedfleet._vectors_1_1, (VALUES (-1), (99)) AS v (n)",
    )
    found = docs.audit()
    assert (4, 2, 4, 4) == (
        found.documents,
        found.waiting_documents,
        found.chunks,
        found.texts,
    )
    assert (1, 1, 1, 1, 2) == (
        found.stored,
        found.waiting,
        found.failed,
        found.missing,
        found.extra,
    )
