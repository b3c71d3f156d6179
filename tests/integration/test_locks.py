"""Locks of those who are gone, or do not go on."""

import time

import psycopg
import pytest

from embedfleet_schema import database, session
from embedfleet_schema.database import LOCK_SPACE, Database
from embedfleet_schema.leadership import DISK_PROBE, Leadership
from embedfleet_schema.statements import load
from embedfleet_schema.store.sweep import sweep
from plugins.worker_processes import eventually

SQL = load("batches")


@pytest.fixture
def frozen(migrated_url, monkeypatch):
    """The database, as a process sees it that does nothing for a while."""
    monkeypatch.setattr(session, "IDLE_S", 0.2)
    frozen = Database(migrated_url)
    yield frozen
    frozen.close()


def test_a_process_that_freezes_in_a_sweep_does_not_keep_the_others_from_sweeping(fleet, frozen):
    def freeze():
        with frozen.transaction() as conn:
            assert (True,) == conn.execute(SQL["try_sweep_lock"], {"space": LOCK_SPACE}).fetchone()
            eventually(lambda: sweep(fleet.db) is not None)

    with pytest.raises(psycopg.OperationalError):
        freeze()


def test_it_goes_on_with_a_new_connection(frozen):
    def freeze():
        with frozen.transaction() as conn:
            conn.execute("SELECT 1")
            time.sleep(1.0)
            conn.execute("SELECT 1")

    with pytest.raises(psycopg.OperationalError):
        freeze()
    with frozen.transaction() as conn:
        assert (1,) == conn.execute("SELECT 1").fetchone()


def test_a_leadership_lasts_although_nothing_happens_in_it(fleet, frozen):
    leadership = Leadership(frozen, DISK_PROBE)
    assert leadership.take()
    time.sleep(1.0)
    assert not Leadership(fleet.db, DISK_PROBE).take()
    leadership.give_back()


def test_the_server_notices_a_machine_that_is_gone_within_a_minute(fleet):
    names = ("idle", "interval", "count")
    with fleet.db.connect() as alone, fleet.db.transaction() as pooled:
        for conn in (alone, pooled):
            shown = [conn.execute(f"SHOW tcp_keepalives_{name}").fetchone()[0] for name in names]
            assert ["20", "10", "3"] == shown
            assert ("50000",) == conn.execute("SHOW tcp_user_timeout").fetchone()
            assert ("1min",) == conn.execute("SHOW idle_in_transaction_session_timeout").fetchone()


def test_no_two_kinds_of_locks_share_a_number():
    numbers = [value for name, value in vars(database).items() if name.endswith("LOCK_SPACE")]
    assert len(numbers) == len(set(numbers)) >= 7
