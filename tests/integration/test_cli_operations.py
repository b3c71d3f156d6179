"""The command line against real servers: jobs, workers, servers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from embedfleet import Document
from embedfleet.fleet import Fleet
from embedfleet.liveness import has_worker
from embedfleet.stack import Endpoints
from embedfleet_schema.revisions import newest
from plugins.fleets import WorkerMaker
from plugins.worker_processes import eventually

if TYPE_CHECKING:
    from plugins.command_line import Command

HEARD = """
UPDATE embedfleet.worker
SET heartbeat_seconds = %s, last_seen = now() - make_interval(secs => %s)
"""


def test_status_shows_jobs_queues_and_workers(command: Command, handbook: str, folder: Path):
    command("enqueue", handbook, folder)
    found = command("status", "--json").json
    assert [("handbook", "running", 3)] == [
        (job["collection"], job["state"], job["queued"]) for job in found["jobs"]
    ]
    assert ["cpu"] == [queue["queue"] for queue in found["queues"]]
    assert [] == found["workers"]
    shown = command("status").out
    assert "Start one: embedfleet worker --queue cpu" in shown


def test_a_worker_is_listed_while_it_lives(command: Command, fleet: Fleet, worker: WorkerMaker):
    worker()
    eventually(lambda: bool(fleet.workers()))
    (listed,) = command("status", "--json").json["workers"]
    assert (os.getpid(), ["cpu"], True) == (listed["pid"], listed["queues"], listed["alive"])
    assert f":{os.getpid()}" in command("status").out
    assert 0 == command("doctor", "--worker").code


def test_a_worker_lives_until_it_has_missed_three_heartbeats_however_long_they_are(
    command: Command, fleet: Fleet, worker: WorkerMaker
):
    """Its own: whoever asks may be configured otherwise."""
    worker(heartbeat_seconds=3_600.0)
    eventually(lambda: bool(fleet.workers()))
    docs = fleet.collection("docs", model="fake/32")
    docs.enqueue([Document("a", "some text")])

    def told(heartbeat_s: float, silent_s: float) -> list[bool]:
        """What each way to ask says of a worker that beats so often and was heard so long ago."""
        with fleet.db.transaction() as conn:
            conn.execute(HEARD, [heartbeat_s, silent_s])
        doctor = command("doctor", "--json").json
        (listed,) = command("status", "--json").json["workers"]
        return [
            command("doctor", "--worker").code == 0,
            "1 alive" in [each["found"] for each in doctor],
            listed["alive"],
            has_worker(fleet, "cpu"),
            bool(docs.explain("a").live_workers),
        ]

    assert ([True] * 5, [False] * 5) == (told(60.0, 170.0), told(60.0, 190.0))
    assert ([True] * 5, [False] * 5) == (told(4.0, 2.0), told(4.0, 13.0))
    assert [True] * 5 == told(3_000.0, 8_000.0)


def test_one_job_can_be_looked_at(command: Command, embedded: str):
    (job,) = command("status", "--json").json["jobs"]
    found = command("status", job["id"], "--json").json
    assert (job["id"], "done", 3, True) == (
        *(found[key] for key in ("id", "state", "embedded")),
        found["finished"],
    )
    assert f"job {job['id']}: enqueue handbook, 3/3 texts" in command("status", job["id"]).out


def test_a_job_is_paused_resumed_and_cancelled(command: Command, handbook: str, folder: Path):
    job = command("enqueue", handbook, folder, "--json").json["job_id"]

    def state() -> str:
        return command("status", job, "--json").json["state"]

    assert 0 == command("pause", job).code
    assert "paused" == state()
    assert 0 == command("resume", job).code
    assert "running" == state()
    assert 0 == command("cancel", job).code
    assert "cancelled" == state()


@pytest.mark.torch
def test_doctor_finds_nothing_broken_in_a_sound_fleet(command: Command, embedded: str):
    examined = command("doctor", "--json")
    levels = {finding["level"] for finding in examined.json}
    subjects = {finding["subject"] for finding in examined.json}
    assert (0, False) == (examined.code, "broken" in levels)
    assert {"PostgreSQL", "pgvector", "tables", "Redis", "workers", "packages"} <= subjects


def test_doctor_says_what_to_do_about_missing_tables(
    command: Command, database_url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("EMBEDFLEET_DATABASE_URL", database_url)
    examined = command("doctor")
    assert 1 == examined.code
    assert "-> embedfleet migrate" in examined.out


def test_doctor_names_servers_that_do_not_answer(command: Command, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EMBEDFLEET_DATABASE_URL", "postgresql://127.0.0.1:1/nowhere")
    monkeypatch.setenv("EMBEDFLEET_REDIS_URL", "redis://127.0.0.1:1/0")
    examined = command("doctor", "--json")
    broken = {each["subject"] for each in examined.json if each["level"] == "broken"}
    assert (1, {"PostgreSQL", "Redis"}) == (examined.code, broken)


def test_a_machine_without_a_worker_is_not_healthy(command: Command):
    asked = command("doctor", "--worker", "--json")
    assert (1, False) == (asked.code, asked.json["healthy"])


def test_migrating_says_from_where_to_where(
    command: Command, database_url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("EMBEDFLEET_DATABASE_URL", database_url)
    first = command("migrate", "--json").json
    assert {"before": None, "after": newest()} == first
    assert f"the tables are already at revision {newest()}\n" == command("migrate").out


def test_up_shows_urls_without_passwords(command: Command, stack: Endpoints, stack_data: Path):
    shown = command("up", "--data", stack_data)
    assert 0 == shown.code
    assert f"PostgreSQL  {urlsplit(stack.database_url).netloc.rpartition('@')[2]}/" in shown.out
    assert f"redis://{urlsplit(stack.redis_url).netloc.rpartition('@')[2]}/0" in shown.out
    for url in (stack.database_url, stack.redis_url):
        assert str(urlsplit(url).password) not in shown.out + shown.err
    told = command("up", "--data", stack_data, "--json").json
    assert (stack.database_url, []) == (told["database_url"], told["workers"])


def test_watching_prints_lines_to_a_pipe_until_interrupted(command: Command, embedded: str):
    watching = subprocess.Popen(
        [sys.executable, "-m", "embedfleet", "watch", "--interval", "0.2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert watching.stdout is not None
    first = watching.stdout.readline()
    watching.send_signal(signal.SIGINT)
    _rest, errors = watching.communicate(timeout=30)
    assert "no job runs" in first
    assert (0, "") == (watching.returncode, errors)


def test_a_person_who_stops_waiting_hears_that_the_job_goes_on(
    command: Command, handbook: str, folder: Path
):
    waiting = subprocess.Popen(
        [sys.executable, "-m", "embedfleet", "enqueue", handbook, str(folder), "--wait"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert waiting.stdout is not None
    assert "3 documents" in waiting.stdout.readline()
    waiting.send_signal(signal.SIGINT)
    _rest, errors = waiting.communicate(timeout=30)
    assert 130 == waiting.returncode
    assert "goes on without you" in errors
    assert "interrupted\n" == errors.splitlines(keepends=True)[-1]
    assert ["running"] == [job["state"] for job in command("status", "--json").json["jobs"]]
