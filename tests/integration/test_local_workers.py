"""Worker processes of a data folder: started, counted, stopped, and never mistaken."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

import embedfleet as ef
from embedfleet import local_processes, local_workers
from embedfleet.local_workers import (
    last_log_lines,
    living_workers,
    running_workers,
    start_workers,
    stop_workers,
    workers,
)
from embedfleet_schema.errors import WorkerStartFailed
from embedfleet_schema.settings import Settings, load_settings
from plugins.worker_processes import eventually

START = """
import json, sys
from pathlib import Path
from embedfleet.local_workers import start_workers
start_workers(Path(sys.argv[1]), 1, env=json.loads(sys.argv[2]))
"""


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """A data folder whose workers are stopped at the end."""
    folder = tmp_path / "data"
    yield folder
    for pid in running_workers(folder):
        os.kill(pid, signal.SIGCONT)
    stop_workers(folder)


@pytest.fixture
def settings(data: Path) -> Settings:
    """Those of the workers, which are not the test's fleet's."""
    return load_settings(data=data)


@pytest.fixture
def servers(fleet: ef.Fleet) -> dict[str, str]:
    """The environment that leads workers to the test's own database."""
    return {
        "EMBEDFLEET_DATABASE_URL": fleet.settings.database,
        "EMBEDFLEET_REDIS_URL": fleet.settings.redis,
    }


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A living process that is none of ours."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        yield process
        process.kill()


def test_started_workers_embed_a_job_and_sign_off_when_they_are_stopped(fleet, servers, data):
    docs = fleet.collection("docs", model="fake/16")
    job = docs.enqueue([ef.Document(f"d{n}", f"text number {n}") for n in range(100)])
    pids = start_workers(data, 2, env=servers)
    assert 2 == len(set(pids))
    assert pids == running_workers(data)
    assert 100 == job.wait(timeout_s=60).embedded
    eventually(lambda: 2 == len(fleet.workers()))
    assert {"cpu"} == {queue for worker in fleet.workers() for queue in worker.queues}
    assert 2 == stop_workers(data)
    assert [] == running_workers(data)
    assert [] == fleet.workers()
    for number in (1, 2):
        assert "queue cpu: 1 slot," in (data / "logs" / f"worker-{number}.log").read_text()


def test_living_workers_have_signed_on_when_the_call_returns(fleet, servers, settings):
    pids = living_workers(fleet.db, settings, 2, env=servers)
    assert set(pids) == {worker.pid for worker in fleet.workers()}
    assert pids == living_workers(fleet.db, settings, 2, env=servers)


def test_a_worker_that_ends_at_once_is_an_error_with_its_last_words(fleet, servers, settings, data):
    broken = servers | {"EMBEDFLEET_LEASE_SECONDS": "-1"}
    with pytest.raises(WorkerStartFailed, match=r"lease_seconds.*\(logs: .*logs\)"):
        living_workers(fleet.db, settings, 2, env=broken)
    eventually(lambda: [] == running_workers(data))


def test_a_second_start_adds_only_what_lacks(servers, data):
    first = start_workers(data, 1, env=servers)
    both = start_workers(data, 2, env=servers)
    assert first == both[:1]
    assert both == start_workers(data, 2, env=servers)
    assert both == start_workers(data, 1, env=servers)
    assert 2 == stop_workers(data)


def test_workers_of_another_queue_are_workers_of_their_own(servers, data):
    cpu = start_workers(data, 1, env=servers)
    api = start_workers(data, 1, queue="api", env=servers)
    assert sorted(cpu + api) == sorted(running_workers(data))
    assert 2 == len({*cpu, *api})


def test_stopping_twice_or_where_none_ever_ran_stops_nothing(servers, data):
    assert 0 == stop_workers(data)
    assert not data.exists()
    start_workers(data, 1, env=servers)
    assert (1, 0) == (stop_workers(data), stop_workers(data))


def test_a_worker_outlives_the_command_that_started_it(servers, data):
    subprocess.run([sys.executable, "-c", START, str(data), json.dumps(servers)], check=True)
    (pid,) = running_workers(data)
    assert os.getsid(pid) == pid
    assert 1 == stop_workers(data)
    with suppress(psutil.NoSuchProcess):
        assert psutil.STATUS_ZOMBIE == psutil.Process(pid).status()


def test_a_pid_that_is_another_program_by_now_is_left_alone(servers, data, sleeper):
    home = data / "workers" / "1"
    home.mkdir(parents=True)
    (home / "worker.json").write_text(json.dumps({"pid": sleeper.pid, "queue": "cpu"}))
    assert [] == running_workers(data)
    (pid,) = start_workers(data, 1, env=servers)
    assert sleeper.pid != pid
    assert 1 == stop_workers(data)
    assert sleeper.poll() is None


@pytest.mark.parametrize("record", ["", "{", "[]", '{"pid": "x"}', '{"queue": "cpu"}'])
def test_a_damaged_record_counts_as_none(data, record):
    home = data / "workers" / "1"
    home.mkdir(parents=True)
    (home / "worker.json").write_text(record)
    assert [] == running_workers(data)
    assert 0 == stop_workers(data)


def test_a_worker_that_does_not_end_in_time_is_killed(servers, data, monkeypatch):
    monkeypatch.setattr(local_processes, "WARM_SECONDS", 0.2)
    (pid,) = start_workers(data, 1, env=servers)
    os.kill(pid, signal.SIGSTOP)
    assert 1 == stop_workers(data)
    assert [] == running_workers(data)


def test_workers_of_a_block_end_with_it_and_others_stay(servers, data):
    (before,) = start_workers(data, 1, env=servers)

    def interrupted() -> None:
        with workers(data, 3, env=servers):
            assert 3 == len(running_workers(data))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [before] == running_workers(data)


def test_a_block_that_is_interrupted_before_any_worker_started_ends_with_the_interrupt(
    data, monkeypatch
):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(local_workers, "_fill_up", interrupted)
    with pytest.raises(KeyboardInterrupt), workers(data, 1):
        pytest.fail("the block must not be entered")
    assert not data.exists()


def test_a_worker_serves_the_stack_of_its_folder_whatever_the_environment_names(data, monkeypatch):
    # Nobody listens there: a worker that believed it would end in an error that says so.
    for name in ("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL"):
        monkeypatch.setenv(name, "redis://127.0.0.1:9/0")
    seen = local_workers._environment(data, 2, {"EMBEDFLEET_LOG_LEVEL": "ERROR"})
    assert [] == [name for name in seen if name.endswith("_URL")]
    assert (str(data), "ERROR") == (seen["EMBEDFLEET_DATA"], seen["EMBEDFLEET_LOG_LEVEL"])


def test_workers_share_the_cores_unless_the_environment_says_otherwise(data, monkeypatch):
    monkeypatch.delenv("EMBEDFLEET_TORCH_THREADS", raising=False)
    monkeypatch.setattr(local_workers, "cores", lambda: 8)
    threads = "EMBEDFLEET_TORCH_THREADS"
    shares = [local_workers._environment(data, count, {})[threads] for count in (1, 2, 3, 100)]
    assert ["8", "4", "2", "1"] == shares
    monkeypatch.setenv(threads, "5")
    assert "5" == local_workers._environment(data, 2, {})[threads]
    assert "6" == local_workers._environment(data, 2, {threads: "6"})[threads]


def test_what_a_worker_died_of_can_be_read(servers, data):
    servers["EMBEDFLEET_DATABASE_URL"] = "postgresql://127.0.0.1:9/none"
    start_workers(data, 1, env=servers)
    eventually(lambda: not running_workers(data))
    assert "PostgreSQL at 127.0.0.1:9/none does not answer" in last_log_lines(data, 0.0)
    assert 0 == stop_workers(data)
