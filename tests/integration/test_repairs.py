"""Repairs and retries beside everybody else: what they look at, and for whom they wait."""

import embedfleet as ef
from embedfleet_schema.store import audit, locks
from embedfleet_schema.store.texts import still_without
from plugins.fleets import ask, drain


def test_a_repair_and_a_retry_wait_for_nobody_who_adds(fleet, docs):
    """They look through the whole collection, which may take minutes."""
    docs.enqueue([ef.Document(f"d{n}", f"text{n}") for n in range(4)]).cancel()
    with fleet.db.transaction() as adding:
        locks.share(adding, docs.info.id)
        found = docs.audit(repair=True)
        assert docs.retry() is None
    assert (4, 4) == (found.missing, fleet.job(found.job_id).status.queued)
    assert docs.audit(repair=True).job_id is None


def test_what_a_repair_found_and_is_stored_or_gone_by_now_is_not_queued(fleet, docs, worker):
    docs.enqueue([ef.Document("c", "stored text")])
    drain(worker())
    docs.enqueue([ef.Document("a", "some text"), ef.Document("b", "other text")]).cancel()
    with fleet.db.transaction() as conn:
        found = conn.execute("SELECT id, tokens FROM embedfleet._texts_1").fetchall()
    assert 3 == len(found)
    docs.delete(["b"])
    with fleet.db.transaction() as conn:
        left = still_without(conn, docs.info, found)
    ((number,),) = ask(fleet, "SELECT id FROM embedfleet._texts_1 WHERE content = 'some text'")
    assert [number] == [text_id for text_id, _ in left]


def test_extra_vectors_go_in_pages_and_those_in_use_stay(fleet, docs, worker, monkeypatch):
    monkeypatch.setattr(audit, "PAGE", 2)
    docs.enqueue([ef.Document("a", "some text")])
    drain(worker())
    with fleet.db.transaction() as conn:
        conn.execute(
            f"INSERT INTO embedfleet.{docs.info.vectors} (text_id, embedding)"
            f" SELECT -n, embedding"
            f" FROM embedfleet.{docs.info.vectors}, generate_series(1, 5) AS n"
        )
    assert 5 == docs.audit(repair=True).extra
    assert (1, 0) == (docs.audit().stored, docs.audit().extra)
