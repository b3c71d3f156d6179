"""The process that follows tables for the embedded stack: started once, found again, stopped."""

import os

import psutil
import pytest

from embedfleet.local_sync import start_sync, stop_sync
from embedfleet.local_workers import running_workers


@pytest.fixture
def data(tmp_path, fleet, monkeypatch):
    """A data folder, and an environment that leads to the test's own servers."""
    monkeypatch.setattr(
        "embedfleet.local_sync.environment_of",
        lambda folder: {
            **os.environ,
            "EMBEDFLEET_DATA": str(folder),
            "EMBEDFLEET_DATABASE_URL": fleet.settings.database,
            "EMBEDFLEET_REDIS_URL": fleet.settings.redis,
        },
    )
    yield tmp_path / "data"
    stop_sync(tmp_path / "data")


def test_it_is_started_once_and_stopped_once(data):
    pid = start_sync(data)
    assert pid == start_sync(data)
    assert "sync" in psutil.Process(pid).cmdline()
    assert [] == running_workers(data)
    assert (True, False) == (stop_sync(data), stop_sync(data))


def test_one_that_died_is_started_again(data):
    pid = start_sync(data)
    psutil.Process(pid).kill()
    os.waitpid(pid, 0)
    assert pid != start_sync(data)


def test_nothing_is_stopped_where_nothing_was_started(data):
    assert not stop_sync(data)
    assert not data.exists()
