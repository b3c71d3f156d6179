"""Progress of a job, as one who waits for it sees it."""

import io

import pytest
from rich.console import Console

from embedfleet import progress
from embedfleet.fleet import Fleet
from embedfleet.job import Job
from embedfleet_schema.types import Document
from plugins.fleets import WorkerMaker, drain
from plugins.worker_processes import eventually

NOBODY = "No worker serves queue cpu. Start one: embedfleet worker --queue cpu"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hints and lines come at once."""
    monkeypatch.setattr(progress, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(progress, "LINE_EVERY_SECONDS", 0.0)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a terminal of 200 columns is sent."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=200, highlight=False, markup=False)
    monkeypatch.setattr(progress, "_console", lambda: console)
    return screen


@pytest.fixture
def job(fleet: Fleet) -> Job:
    """A job of three documents."""
    docs = fleet.collection("handbook", "fake/32")
    return docs.enqueue([Document(f"{number}.txt", f"Text {number}.") for number in range(3)])


@pytest.mark.usefixtures("impatient")
def test_a_line_is_printed_now_and_then_where_there_is_no_terminal(
    fleet: Fleet, job: Job, worker: WorkerMaker, capsys: pytest.CaptureFixture[str]
):
    with progress.job_progress(fleet) as show:
        show(job.status)
        drain(worker())
        show(job.status)
    lines = capsys.readouterr().err.splitlines()
    assert f"job {job.id} (handbook): 0/3 texts embedded" == lines[0]
    assert lines[-1].startswith(f"job {job.id} (handbook): 3/3 texts embedded, done after")


@pytest.mark.usefixtures("impatient")
def test_a_job_that_nobody_serves_gets_one_hint(
    fleet: Fleet, job: Job, capsys: pytest.CaptureFixture[str]
):
    with progress.job_progress(fleet) as show:
        for _ in range(3):
            show(job.status)
    assert [NOBODY] == [line for line in capsys.readouterr().err.splitlines() if "worker" in line]


@pytest.mark.usefixtures("impatient")
def test_a_job_that_a_worker_serves_gets_no_hint(
    fleet: Fleet, job: Job, worker: WorkerMaker, capsys: pytest.CaptureFixture[str]
):
    worker()
    eventually(lambda: bool(fleet.workers()))
    with progress.job_progress(fleet) as show:
        for _ in range(3):
            show(job.status)
    assert NOBODY not in capsys.readouterr().err


@pytest.mark.usefixtures("impatient")
def test_a_paused_job_says_how_to_go_on(fleet: Fleet, job: Job, capsys: pytest.CaptureFixture[str]):
    job.pause()
    with progress.job_progress(fleet) as show:
        show(job.status)
        show(job.status)
    assert 1 == capsys.readouterr().err.count(f"It is paused. Go on: embedfleet resume {job.id}")


def test_a_terminal_gets_a_bar_that_ends_full(
    fleet: Fleet, job: Job, worker: WorkerMaker, terminal: io.StringIO
):
    with progress.job_progress(fleet) as show:
        show(job.status)
        drain(worker())
        show(job.status)
    assert "3/3 texts embedded, done after" in terminal.getvalue()
    assert "━" * 24 in terminal.getvalue()


def test_a_job_without_anything_to_embed_ends_at_once(fleet: Fleet, terminal: io.StringIO):
    job = fleet.collection("handbook", "fake/32").enqueue([])
    assert "done" == job.wait(progress=True).state
    assert "nothing new to embed, done after" in terminal.getvalue()


@pytest.mark.usefixtures("impatient")
def test_the_counts_of_an_enqueue_are_shown(fleet: Fleet, capsys: pytest.CaptureFixture[str]):
    docs = fleet.collection("handbook", "fake/32")
    with progress.enqueue_progress() as show:
        docs.enqueue([Document("a", "One."), Document("b", "Two.")], on_window=show)
    assert "stored 2 documents, 2 chunks" in capsys.readouterr().err


def test_an_activity_is_shown_as_it_is_written(terminal: io.StringIO):
    with progress.activity("embedding with local//models/[new]") as tell:
        tell("now [bold] things")
    assert "now [bold] things" in terminal.getvalue()
