"""The command line against real servers: collections, documents, searches, repairs."""

from __future__ import annotations

import io
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import psycopg
import pytest

from embedfleet.fleet import Fleet
from plugins.fleets import WorkerMaker, drain

if TYPE_CHECKING:
    from plugins.command_line import Command

POISON = "poison pill"


def test_a_created_collection_is_listed_and_shown(command: Command):
    created = command(
        *("collection", "create", "notes", "--model", "fake/32", "--size", 128, "--overlap", 16),
        *("--mode", "markdown", "--storage", "halfvec", "--metric", "l2", "--json"),
    ).json
    cut = {"size": 128, "overlap": 16, "mode": "markdown", "tokenizer": "", "too_long": "reject"}
    cut["template"] = ""
    assert cut == created["chunking"]
    assert ("fake/32", 32, "halfvec", "l2", "cpu") == tuple(
        created[key] for key in ("model", "dimensions", "storage", "metric", "queue")
    )
    assert created == command("collection", "show", "notes", "--json").json
    details = ("index", "search", "columns", "model_change")
    shown = {key: value for key, value in created.items() if key not in details}
    assert [shown] == command("collection", "list", "--json").json
    assert "notes" in command("collection", "list").out


def test_creating_a_collection_again_changes_nothing(command: Command, handbook: str):
    before = command("collection", "show", handbook, "--json").json
    created = command("collection", "create", handbook, "--model", "fake/32", "--json").json
    assert before == created


def test_a_dropped_collection_is_gone(command: Command, handbook: str):
    assert "dropped handbook\n" == command("collection", "drop", handbook, "--yes").out
    assert [] == command("collection", "list", "--json").json


def test_a_drop_without_a_terminal_wants_a_yes(command: Command, handbook: str):
    refused = command("collection", "drop", handbook)
    assert (2, 1) == (refused.code, len(command("collection", "list", "--json").json))
    assert "--yes" in refused.err


def test_a_folder_is_enqueued_embedded_and_found(
    command: Command, folder: Path, worker: WorkerMaker
):
    summary = command("enqueue", "handbook", folder, "--model", "fake/32")
    assert "3 documents, 0 unchanged, 3 chunks, 0 reused" in summary.out
    assert "No worker serves queue cpu. Start one: embedfleet worker --queue cpu" in summary.err
    drain(worker())
    hits = command("search", "handbook", "anything", "-k", 2, "--json").json
    assert 2 == len(hits)
    assert {"id", "document", "position", "content", "metadata", "score"} == set(hits[0])
    assert hits[0]["score"] >= hits[1]["score"]


def test_enqueueing_again_counts_everything_as_unchanged(
    command: Command, embedded: str, folder: Path
):
    again = command("enqueue", embedded, folder, "--json").json
    assert (0, 3, 0) == (again["documents"], again["unchanged"], again["batches"])


@pytest.mark.usefixtures("embedding")
def test_waiting_ends_when_all_is_embedded(command: Command, handbook: str, folder: Path):
    waited = command("enqueue", handbook, folder, "--wait", "--json")
    assert ("done", 3, 0) == tuple(
        waited.json["job"][key] for key in ("state", "embedded", "failed")
    )
    assert "3/3 texts embedded, done after" in waited.err


def test_standard_input_is_a_document(
    command: Command, handbook: str, monkeypatch: pytest.MonkeyPatch
):
    stdin = SimpleNamespace(buffer=io.BytesIO(b"said on the way"), isatty=lambda: False)
    monkeypatch.setattr(sys, "stdin", stdin)
    assert 1 == command("enqueue", handbook, "-", "--json").json["documents"]


def test_rejections_are_grouped_with_a_few_examples(command: Command, handbook: str, folder: Path):
    for number in range(5):
        (folder / f"{number}.txt").write_bytes(b"\0")
    done = command("enqueue", handbook, folder)
    assert 0 == done.code
    assert "NOT_TEXT: 5\n" in done.out
    assert "and 2 more" in done.out
    assert "embedfleet failures handbook" in done.err


def test_redis_that_does_not_answer_loses_nothing(
    command: Command, handbook: str, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("EMBEDFLEET_REDIS_URL", "redis://127.0.0.1:1/0")
    done = command("enqueue", handbook, folder)
    assert 0 == done.code
    assert "running workers find the batches" in done.err
    assert 3 == command("audit", handbook, "--json").json["waiting"]


def test_a_condition_narrows_the_search(command: Command, embedded: str):
    hits = command("search", embedded, "x", "--where", "type=md", "--json").json
    assert ["c.md"] == [hit["document"] for hit in hits]


def test_hits_are_shown_with_score_key_and_text(command: Command, embedded: str):
    shown = command("search", embedded, "x", "-k", 1, "--where", "type=md").out
    assert "c.md #0" in shown
    assert "The third document." in shown


def test_the_statement_of_a_search_can_be_printed(command: Command, embedded: str):
    printed = command("search", embedded, "x", "--sql", "-k", 7, "--where", "lang=en")
    lines = printed.out.splitlines()
    assert "SELECT id, document, position, content, metadata, score" == lines[0]
    assert lines[1].startswith("FROM embedfleet.search('handbook', '[")
    assert lines[1].endswith("""]', 7, '{"lang": "en"}');""")
    assert {"sql": printed.out.rstrip("\n")} == command(
        "search", embedded, "x", "--sql", "-k", 7, "--where", "lang=en", "--json"
    ).json


def test_an_index_is_built_once(command: Command, embedded: str):
    assert command("index", embedded).out.startswith("built ")
    assert "handbook is already indexed\n" == command("index", embedded).out
    assert command("collection", "show", embedded, "--json").json["indexed"]


def test_failures_are_listed_and_tried_again(command: Command, failed: str, worker: WorkerMaker):
    (failure,) = command("failures", failed, "--json").json
    assert ("d.txt", 0, "INPUT_REJECTED") == tuple(
        failure[key] for key in ("document", "position", "code")
    )
    listed = command("failures", failed)
    assert POISON in listed.out
    assert "embedfleet retry handbook" in listed.err
    assert command("retry", failed, "--json").json["job_id"] > failure["job_id"]
    drain(worker())
    assert [] == command("failures", failed, "--json").json


def test_failures_of_one_job_are_tried_again(command: Command, failed: str):
    (failure,) = command("failures", failed, "--json").json
    assert 0 == command("retry", failure["job_id"]).code
    again = command("retry", failure["job_id"])
    assert "no failed chunks to retry\n" == again.out


def test_waiting_for_a_retry_that_fails_again_is_a_failure(
    command: Command, failed: str, worker: WorkerMaker
):
    stubborn = worker(fake_faults=f"poison={POISON}")
    done = threading.Event()

    def work() -> None:
        while not done.wait(0.05):
            stubborn.run_one("cpu")

    thread = threading.Thread(target=work)
    thread.start()
    waited = command("retry", failed, "--wait", "--json")
    done.set()
    thread.join()
    assert (1, 1) == (waited.code, waited.json["job"]["failed"])


def test_deleted_documents_are_not_found_any_more(command: Command, embedded: str):
    deleted = command("delete", embedded, "a.txt", "nowhere.txt", "--json")
    assert (0, {"deleted": ["a.txt"]}) == (deleted.code, deleted.json)
    assert "not there: nowhere.txt" in deleted.err
    assert 2 == len(command("search", embedded, "x", "--json").json)
    assert 1 == command("delete", embedded, "a.txt").code


def test_an_audit_finds_and_repairs_what_is_missing(
    command: Command, embedded: str, fleet: Fleet, worker: WorkerMaker
):
    assert 0 == command("audit", embedded).code
    vectors = fleet.collection(embedded).info.vectors
    with psycopg.connect(fleet.settings.direct_database, autocommit=True) as conn:
        conn.execute(f"TRUNCATE embedfleet.{vectors}")
    found = command("audit", embedded, "--json")
    assert (1, 3, False) == (found.code, found.json["missing"], found.json["clean"])
    assert "--repair" in command("audit", embedded).err
    assert 0 == command("audit", embedded, "--repair").code
    drain(worker())
    assert command("audit", embedded, "--json").json["clean"]
