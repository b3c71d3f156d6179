"""The demo as a person runs it: from a terminal, again, and with Ctrl-C in every moment."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from embedfleet.demo import QUESTIONS
from embedfleet.embedded import ready
from embedfleet.fleet import Fleet
from embedfleet.stack import status, up
from embedfleet_schema.settings import load_settings
from plugins.servers import stack_folder
from plugins.worker_processes import eventually

pytestmark = [pytest.mark.torch, pytest.mark.timeout(900)]

CHUNKS = 60
SERVERS = re.compile("URL|^EMBEDFLEET_")
HIT = re.compile(r"^  (-?\d\.\d{3})  \S+ +\S", re.MULTILINE)


@pytest.fixture
def data() -> Iterator[Path]:
    with stack_folder() as folder:
        yield folder


def start(data: Path, *words: str, **settings: str) -> "subprocess.Popen[str]":
    """The demo, in a process group of its own as a terminal's foreground command is."""
    clean = {name: value for name, value in os.environ.items() if not SERVERS.search(name)}
    return subprocess.Popen(
        [sys.executable, "-m", "embedfleet", "--data", str(data), "demo", *words],
        env={**clean, **settings},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(data: Path, *words: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    with start(data, *words, **settings) as process:
        out, err = process.communicate(timeout=280)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def read_until(process: "subprocess.Popen[str]", words: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if words in line:
            return
    pytest.fail(f"it never said {words!r}: {process.communicate()}")


def interrupt(process: "subprocess.Popen[str]", number: int = signal.SIGINT) -> int:
    """Signal the whole group, as a terminal does; returns the exit code."""
    os.killpg(process.pid, number)
    process.communicate(timeout=90)
    return process.returncode


def belonging_to(data: Path) -> list[str]:
    """The processes that work in the data folder or name it in their command line."""
    found = []
    for process in psutil.process_iter():
        try:
            told = [process.cwd(), *process.cmdline()]
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if any(str(data) in word for word in told):
            found.append(" ".join(told))
    return found


def all_end(data: Path) -> None:
    """PostgreSQL's logger and a server that was about to start end a moment after the rest."""
    eventually(lambda: not belonging_to(data))


def workers_of(data: Path) -> list[str]:
    return [line for line in belonging_to(data) if "embedfleet worker" in line]


def embedded(said: str) -> int:
    return sum(int(count) for count in re.findall(r"^(\d+) chunks embedded", said, re.MULTILINE))


@pytest.mark.slow
def test_the_demo_answers_three_questions_and_a_second_run_embeds_nothing(data):
    # One worker: each takes six seconds of a core to load the model.
    first = run(data, "--chunks", str(CHUNKS), "--workers", "1")
    assert (0, "") == (first.returncode, first.stderr if first.returncode else "")
    assert embedded(first.stdout) >= CHUNKS / 2
    for question in QUESTIONS:
        assert f"\n{question}\n" in first.stdout
    scores = [float(score) for score in HIT.findall(first.stdout)]
    assert 3 * len(QUESTIONS) == len(scores)
    for start_of_three in range(0, len(scores), 3):
        three = scores[start_of_three : start_of_three + 3]
        assert sorted(three, reverse=True) == three
    assert "FROM embedfleet.search('stdlib'" in first.stdout
    assert f"embedfleet --data {data} down" in first.stdout
    assert status(data).running
    assert [] == workers_of(data)

    again = run(data, "--chunks", str(CHUNKS))
    assert (0, 0) == (again.returncode, embedded(again.stdout))
    assert "0 chunks embedded: all of them already have a vector" in again.stdout
    assert HIT.findall(first.stdout) == HIT.findall(again.stdout)


def test_ctrl_c_while_workers_embed_ends_all_and_the_next_run_does_only_the_rest(data):
    process = start(
        data, "--chunks", "300", "--model", "fake/16", EMBEDFLEET_FAKE_FAULTS="latency=1"
    )
    read_until(process, "Starting 2 workers")
    log = data / "logs" / "worker-1.log"
    eventually(lambda: log.exists() and ": done," in log.read_text())
    assert 130 == interrupt(process)
    all_end(data)

    rest = run(data, "--chunks", "300", "--model", "fake/16")
    whole = run(data, "--chunks", "300", "--model", "fake/16")
    assert (0, 0) == (rest.returncode, whole.returncode)
    with Fleet(load_settings(data=data)) as fleet:
        vectors = fleet.collection("stdlib").counts().vectors
    assert 0 < embedded(rest.stdout) < vectors
    assert 0 == embedded(whole.stdout)
    logs = "".join(log.read_text() for log in data.glob("logs/worker-*.log"))
    assert vectors == sum(int(texts) for texts in re.findall(r": done, (\d+) texts", logs))


@pytest.mark.parametrize(
    "words",
    ["creating the database", "starting PostgreSQL", "starting Valkey", "creating the tables"],
)
def test_ctrl_c_while_the_servers_start_leaves_none_behind(data, words):
    process = start(data, "--chunks", "5", "--model", "fake/16")
    read_until(process, words)
    assert 130 == interrupt(process)
    all_end(data)


def test_a_terminal_that_closes_ends_all_too(data):
    process = start(data, "--chunks", "5", "--model", "fake/16", EMBEDFLEET_FAKE_FAULTS="latency=1")
    read_until(process, "Starting 2 workers")
    assert 128 + signal.SIGHUP == interrupt(process, signal.SIGHUP)
    all_end(data)


def test_servers_that_were_there_before_stay_when_the_demo_is_interrupted(data):
    up(data)
    process = start(data, "--chunks", "5", "--model", "fake/16")
    read_until(process, "Starting 2 workers")
    assert 130 == interrupt(process)
    assert status(data).running
    assert [] == workers_of(data)


def test_a_model_that_is_not_there_is_said_before_anything_starts(data):
    told = run(data, "--model", str(data / "model"))
    assert (1, "") == (told.returncode, told.stdout)
    assert f"The model '{data}/model' cannot be loaded: there is no such directory" in told.stderr
    assert not data.exists()


def test_another_model_than_the_collections_is_refused(data):
    ready(data)
    with Fleet(load_settings(data=data)) as fleet:
        fleet.collection("stdlib", model="fake/16")
    told = run(data, "--chunks", "5", "--model", "fake/32")
    assert 2 == told.returncode
    assert "Collection 'stdlib' holds vectors of fake/16" in told.stderr
    assert "Open it with its own model" in told.stderr


def test_the_demo_keeps_away_from_a_configured_database(data):
    nowhere = {"DATABASE_URL": "postgresql://127.0.0.1:9/other", "REDIS_URL": "redis://127.0.0.1:9"}
    told = run(data, "--chunks", "5", "--model", "fake/16", **nowhere)
    assert 0 == told.returncode, told.stderr
    assert "names another database, which the demo did not use" in told.stdout
