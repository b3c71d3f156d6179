"""What the fault suite checks after each test: it can fail."""

from plugins import fenced_writes
from plugins.fleets import ask, documents, drain


def test_a_vector_that_no_lease_covers_is_seen(fleet, docs, worker):
    fenced_writes.watch(fleet)
    docs.enqueue(documents(20))
    drain(worker())
    other = fleet.collection("other", model="fake/16")
    other.enqueue(documents(20))
    drain(worker())
    assert 20 == other.audit().stored
    assert [] == fenced_writes.unfenced(fleet)
    ask(
        fleet,
        f"INSERT INTO embedfleet.{docs.info.vectors} (text_id, embedding)"
        f" SELECT -1, embedding FROM embedfleet.{docs.info.vectors} LIMIT 1",
    )
    assert [(f"embedfleet.{docs.info.vectors}", -1)] == fenced_writes.unfenced(fleet)
