"""Texts that no chunk has: only a person with SQL can leave them, and a repair clears them away."""

import embedfleet as ef
from plugins.fleets import ask, drain


def test_an_audit_goes_by_the_chunks_and_a_repair_removes_what_none_of_them_has(
    fleet, docs, worker
):
    docs.enqueue([ef.Document("a", chunks=["stays", "stored and unused"])])
    drain(worker())
    docs.enqueue([ef.Document("b", chunks=["never stored and unused"])]).cancel()
    ask(
        fleet,
        "DELETE FROM embedfleet._chunks_1 USING embedfleet._texts_1 AS t"
        " WHERE t.id = text_id AND t.content ~ 'unused'",
    )
    found = docs.audit()
    assert (1, 1, 0, 1) == (found.texts, found.stored, found.missing, found.extra)
    assert docs.audit(repair=True).job_id is None
    assert [("stays",)] == ask(fleet, "SELECT content FROM embedfleet._texts_1")
    assert (1, 0) == (docs.audit().stored, docs.audit().extra)
