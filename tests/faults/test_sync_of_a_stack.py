"""The embedded stack follows tables by itself, from `up` to `down`."""

import json

import pytest

from embedfleet.cli import main
from embedfleet.local_sync import stop_sync
from plugins.fleets import ask
from plugins.synced_tables import ARTICLES, FOLLOWED, ROWS
from plugins.worker_processes import eventually


@pytest.fixture
def told(own_fleet, monkeypatch, capsys):
    """What a command says of the stack's data folder."""
    for name in ("EMBEDFLEET_DATABASE_URL", "DATABASE_URL", "EMBEDFLEET_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    data = own_fleet.settings.data

    def run(command):
        assert 0 == main([command, "--data", str(data), "--json"])
        return json.loads(capsys.readouterr().out)

    yield run
    stop_sync(data)


def test_up_starts_what_follows_tables_and_down_stops_it(own_fleet, told):
    assert told("up")["sync"] is None
    ask(own_fleet, ARTICLES)
    sync = own_fleet.sync("articles", "fake/16", **FOLLOWED)
    pid = told("up")["sync"]
    assert pid == told("up")["sync"]
    ask(own_fleet, ROWS, 1, 5)
    eventually(lambda: 5 == len(list(own_fleet.collection("articles").documents())))
    eventually(lambda: "following" == sync.status.state)
    assert [True, False] == [told("down")["sync"] for _ in range(2)]
