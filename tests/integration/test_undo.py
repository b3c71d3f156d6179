"""Taking back what was enqueued: by job, by the start of the keys, and the verdicts on the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import embedfleet as ef
from embedfleet_schema.errors import UnknownJob, UsageError
from embedfleet_schema.store.documents import DELETED_AT_ONCE, remove
from plugins.fleets import WorkerMaker, drain

if TYPE_CHECKING:
    from pathlib import Path

    from embedfleet.fleet import Fleet
    from plugins.command_line import Command


def keys(docs: ef.Collection) -> list[str]:
    with docs._connections.db.transaction() as conn:
        table = docs.info.documents
        rows = conn.execute(f"SELECT key FROM embedfleet.{table} ORDER BY key").fetchall()
    return [key for (key,) in rows]


def test_what_a_job_stored_is_gone_and_nothing_else(docs: ef.Collection, worker: WorkerMaker):
    docs.enqueue([ef.Document("a", "first"), ef.Document("b", "second")])
    job = docs.enqueue([ef.Document("b", "changed"), ef.Document("c", "third"), ef.Document("d")])
    drain(worker())
    assert 3 == docs.delete_matching(job_id=job.id)
    assert ["a"] == keys(docs)
    assert [] == docs.failures()
    assert docs.audit().clean


def test_a_verdict_of_a_job_goes_without_the_document_that_another_job_stored(
    docs: ef.Collection, worker: WorkerMaker
):
    first = docs.enqueue([ef.Document("a", "first"), ef.Document("b", "second")])
    job = docs.enqueue([ef.Document("a", ""), ef.Document("c", "third")])
    drain(worker())
    assert 2 == docs.delete_matching(job_id=job.id)
    assert ["a", "b"] == keys(docs)
    assert [] == docs.failures()
    docs.enqueue([ef.Document("b", "")])
    assert 2 == docs.delete_matching(job_id=first.id)
    assert ["b"] == [failure.document for failure in docs.failures()]


def test_what_another_job_stores_meanwhile_stays(docs: ef.Collection):
    job = docs.enqueue([ef.Document("a", "first"), ef.Document("b", "second")])
    docs.enqueue([ef.Document("a", "changed")])
    db, collection = docs._connections.db, docs.info
    assert ["b"] == remove(db, collection, ["a", "b"], job_id=job.id)
    assert ["a"] == keys(docs)


def test_keys_that_begin_alike_go_however_many(docs: ef.Collection):
    count = DELETED_AT_ONCE + 1
    docs.enqueue(ef.Document(f"old/{n}", f"text {n}") for n in range(count))
    docs.enqueue([ef.Document("older", "text"), ef.Document("OLD/1", "x"), ef.Document("%", "y")])
    assert 0 == docs.delete_matching(prefix="%d")
    assert count == docs.delete_matching(prefix="old/")
    assert ["%", "OLD/1", "older"] == keys(docs)


@pytest.mark.parametrize(
    "selection", [{}, {"prefix": ""}, {"prefix": "\0"}, {"prefix": "\ud800"}, {"where": {}}]
)
def test_a_selection_of_everything_or_of_nothing_is_refused(
    docs: ef.Collection, selection: dict[str, Any]
):
    docs.enqueue([ef.Document("a", "first")])
    with pytest.raises(UsageError):
        docs.delete_matching(**selection)
    assert ["a"] == keys(docs)


def test_a_job_of_another_collection_selects_nothing(fleet: Fleet, docs: ef.Collection):
    other = fleet.collection("other", model="fake/16")
    job = other.enqueue([ef.Document("a", "text")])
    with pytest.raises(UnknownJob):
        docs.delete_matching(job_id=job.id)
    assert ["a"] == keys(other)


def test_documents_with_some_metadata_go_whatever_type_it_has(docs: ef.Collection):
    shop = {"year": 2024, "sale": "50%"}
    docs.enqueue(
        [
            ef.Document("number", "text", shop),
            ef.Document("cell", "text", {"year": "2024", "sale": "50%"}),
            ef.Document("chunk", chunks=["a", ef.Chunk("b", metadata=shop)]),
            ef.Document("other", "text", {"year": 2025, "sale": "50%"}),
            ef.Document("rejected", "", shop),
        ]
    )
    assert 0 == docs.delete_matching(where={"year": 2024}, prefix="o")
    assert 3 == docs.delete_matching(where={"year": 2024, "sale": "50%"})
    assert ["other"] == keys(docs)
    assert ["rejected"] == [each.document for each in docs.failures()]


def test_a_version_that_is_replaced_counts_by_its_new_metadata(
    docs: ef.Collection, worker: WorkerMaker
):
    docs.enqueue([ef.Document("a", "text", {"team": "it"})])
    drain(worker())
    docs.enqueue([ef.Document("a", "text", {"team": "people"})])
    assert 0 == docs.delete_matching(where={"team": "it"})
    assert 1 == docs.delete_matching(where={"team": "people"})


def test_the_command_takes_keys_or_a_selection(command: Command, handbook: str, folder: Path):
    job = command("enqueue", handbook, folder, "--json").json["job_id"]
    assert 2 == command("delete", handbook).code
    assert 2 == command("delete", handbook, "a.txt", "--job", job).code
    assert "deleted 1 document\n" == command("delete", handbook, "--prefix", "a.").out
    assert {"deleted": 2} == command("delete", handbook, "--job", job, "--json").json
    assert 1 == command("delete", handbook, "--job", job).code


def test_the_command_deletes_by_metadata(command: Command, handbook: str, folder: Path):
    command("enqueue", handbook, folder)
    assert 2 == command("delete", handbook, "a.txt", "--where", "type=txt").code
    assert 2 == command("delete", handbook, "--where", "type").code
    assert "deleted 1 document\n" == command("delete", handbook, "--where", "path=a.txt").out
    assert 1 == command("delete", handbook, "--where", "path=a.txt").code


def test_verdicts_on_documents_are_cleared_and_failed_chunks_stay(
    command: Command, failed: str, tmp_path: Path
):
    (tmp_path / "empty.txt").write_text("")
    command("enqueue", failed, tmp_path / "empty.txt")
    listed = command("failures", failed, "--json").json
    assert {"empty.txt", "d.txt"} == {each["document"] for each in listed}
    cleared = command("failures", failed, "--clear")
    assert "cleared 1 verdict on rejected documents\n" == cleared.out
    assert f"Retry them: embedfleet retry {failed}" in cleared.err
    assert ["d.txt"] == [each["document"] for each in command("failures", failed, "--json").json]
    assert 0 == command("audit", failed).code
