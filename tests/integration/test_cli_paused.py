"""The command line where a provider refused or a budget is spent: what it says, what goes on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from embedfleet.fleet import Fleet
from plugins.fleets import claiming

if TYPE_CHECKING:
    from plugins.command_line import Command

WHY = "You exceeded your current quota."


@pytest.fixture
def stopped(command: Command, fleet: Fleet, handbook: str, folder: Path) -> int:
    """The number of a job whose model is paused."""
    job: int = command("enqueue", handbook, folder, "--json").json["job_id"]
    with claiming(fleet) as batches:
        lease = batches.claim("cpu")
        assert lease is not None
        batches.pause_space(lease, code="insufficient_quota", reason=WHY)
    return job


def test_status_says_which_model_is_paused_why_and_what_to_run(command: Command, stopped: int):
    shown = command("status").out
    assert "fake/32 has been paused since " in shown
    assert "(insufficient_quota): You exceeded your current quota." in shown
    assert "Go on with: embedfleet resume fake/32" in shown
    found = command("status", "--json").json
    assert ["fake/32"] == [space["model"] for space in found["paused"]]
    assert ["paused"] == [job["state"] for job in found["jobs"]]
    assert "waiting: fake/32 is paused (insufficient_quota)" in command("status", stopped).out


def test_doctor_says_it_too_and_calls_nothing_broken(command: Command, stopped: int):
    answer = command("doctor")
    assert 0 == answer.code
    assert "(insufficient_quota): You exceeded your current quota; " in answer.out
    assert "fix it there, then: embedfleet resume fake/32" in answer.out


def test_explain_says_what_a_document_waits_for(command: Command, stopped: int, fleet: Fleet):
    with fleet.db.transaction() as conn:
        ((key,),) = conn.execute("SELECT key FROM embedfleet._documents_1 LIMIT 1").fetchall()
    told = command("explain", "handbook", key).out
    assert "is held because its model is paused." in told
    assert "Go on with: embedfleet resume fake/32" in told


def test_a_model_is_resumed_by_its_name(command: Command, stopped: int):
    assert "fake/32 is resumed\n" == command("resume", "fake/32").out
    assert "fake/32 was not paused\n" == command("resume", "fake/32").out
    assert "running" == command("status", stopped, "--json").json["state"]


def test_a_job_of_a_paused_model_is_told_what_it_waits_for(command: Command, stopped: int):
    answer = command("resume", stopped)
    assert f"job {stopped} goes on when fake/32 does" in answer.out
    assert "Go on: embedfleet resume fake/32" in answer.err


def test_a_spent_budget_is_raised_in_the_same_command(
    command: Command, fleet: Fleet, handbook: str, folder: Path
):
    job = command("enqueue", handbook, folder, "--json").json["job_id"]
    with fleet.db.transaction() as conn:
        conn.execute("UPDATE embedfleet.job SET budget_usd = 0.5, paused_at = now()")
        conn.execute(
            "INSERT INTO embedfleet.usage (day, space_id, job_id, usd) VALUES (now(), 1, %s, 0.5)",
            (job,),
        )
    refused = command("resume", job)
    assert 2 == refused.code
    assert f"embedfleet resume {job} --budget USD" in refused.err
    assert f"job {job} goes on\n" == command("resume", job, "--budget", "2").out
    assert "$0.50 of $2.00 spent" in command("status", job).out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("0",), "There is no job 0"),
        ((str(2**63),), "There is no job 9223372036854775808"),
        (("openai/nothing",), "No collection uses the model 'openai/nothing'"),
        (("fake/32", "--budget", "1"), "a budget belongs to a job"),
        (("1", "--budget", "0"), "--budget"),
        (("1", "--budget", "nan"), "--budget"),
    ],
)
def test_what_cannot_be_resumed_is_told_in_one_line(command: Command, stopped, words, said):
    answer = command("resume", *words)
    assert 2 == answer.code
    assert said in answer.err
