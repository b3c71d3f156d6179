"""`enqueue` with several processes: the rows, the verdicts and the counts of one process."""

import asyncio
import re
from dataclasses import asdict

import pytest

import embedfleet as ef
from embedfleet_schema.errors import UsageError
from plugins.chunk_functions import sentences
from plugins.fleets import ask

STORED = """
SELECT d.key, d.digest, d.version, d.source, c.position, c.start_offset, c.end_offset, c.metadata,
    t.hash, t.tokens, t.content
FROM embedfleet._documents_{0} AS d
LEFT JOIN embedfleet._chunks_{0} AS c ON c.document_id = d.id
LEFT JOIN embedfleet._texts_{0} AS t ON t.id = c.text_id
ORDER BY d.key, d.version, c.position
"""
VERDICTS = """
SELECT document_key, code, reason, source FROM embedfleet.failure
WHERE collection_id = %s AND document_key IS NOT NULL ORDER BY document_key
"""


@pytest.fixture
def fleet(migrated_url, redis_url):
    """Windows of forty documents."""
    with ef.connect(migrated_url, redis_url, window_documents=40) as fleet:
        yield fleet


def stream(edition: int):
    """Long and short texts, ready-made chunks, and all that is rejected or stands twice."""
    for n in range(130):
        text = f"Document {n}, edition {edition if n % 3 else 0}. " * (1 + 70 * (n % 4))
        yield ef.Document(f"text-{n}", text, {"n": n}, source=f"file-{n % 5}")
        if n % 10 == 0:
            yield ef.Document(
                f"ready-{n}", chunks=["one", ef.Chunk("two words", metadata={"x": n})]
            )
            yield ef.Document(f"text-{n // 2}", f"again {n}", source="another")
            yield ef.Rejection(f"row-{n}", "UNREADABLE", "it is broken", "file-1")
            yield ef.Document(f"bad-{n}", "bad\0", {"n": n})
            yield ef.Document("", "bad key")
            yield ef.Document(f"md-{n}", f"# Head {n}\n\n" + "Some words. " * 90, mode="markdown")


def enqueued(fleet, name, **how):
    """What two editions leave: the counts, with the verdicts in their order, and the rows."""
    docs = fleet.collection(name, model="fake/16", chunking=ef.Chunking(40, 5), reuse="none")
    counts = [asdict(docs.enqueue(stream(edition), **how).enqueued) for edition in (1, 2)]
    for each in counts:
        del each["job_id"]
    rows = ask(fleet, STORED.format(docs.info.id))
    return counts, rows, ask(fleet, VERDICTS, docs.info.id)


@pytest.mark.parametrize("chunk", [None, sentences])
def test_several_processes_store_what_one_does(fleet, chunk):
    alone = enqueued(fleet, "alone", chunk=chunk)

    assert alone == enqueued(fleet, "together", chunk=chunk, processes=2)
    assert 200 < len(alone[1])
    assert 40 < alone[0][0]["rejected"]


def test_the_result_is_that_of_one_process_in_an_event_loop_too(fleet):
    docs = fleet.collection("docs", model="fake/16")
    job = asyncio.run(docs.aenqueue(stream(1), processes=2))

    docs.enqueue(stream(1))
    assert 0 < job.enqueued.documents
    assert docs.enqueue(stream(1)).enqueued.documents == 0


def test_a_function_that_cannot_be_imported_is_refused_before_there_is_a_job(fleet):
    docs = fleet.collection("docs", model="fake/16")
    wanted = re.escape("processes=2 needs a chunk function that other processes can import")

    with pytest.raises(UsageError, match=wanted):
        docs.enqueue(stream(1), chunk=lambda text: [text], processes=2)
    assert [] == list(fleet.jobs())


@pytest.mark.parametrize("processes", [0, -1, 65, 2.5, "2", None, True])
def test_the_number_of_processes_is_checked(fleet, processes):
    docs = fleet.collection("docs", model="fake/16")

    with pytest.raises(UsageError, match="processes is a whole number from 1 to 64"):
        docs.enqueue(stream(1), processes=processes)


def test_the_command_cuts_files_in_several_processes(command, handbook, tmp_path):
    for n in range(40):
        (tmp_path / f"{n}.md").write_text(f"# Number {n}\n\n" + f"Some words of {n}. " * 400)

    assert 0 == command("enqueue", handbook, tmp_path, "--processes", 2).code
    again = command("enqueue", handbook, tmp_path, "--json")
    assert (0, 40) == (again.json["documents"], again.json["unchanged"])
    assert 2 == command("enqueue", handbook, tmp_path, "--processes", 0).code
