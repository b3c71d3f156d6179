"""Locks that somebody else holds for good: nobody waits without a word, and all name who it is."""

from datetime import timedelta
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

import embedfleet as ef
from embedfleet.cli import database_diagnosis
from embedfleet.cli.indexing import _Phases
from embedfleet.fleet import Fleet
from embedfleet_producer import retries as under_test
from embedfleet_schema.database import (
    LOCK_SPACE,
    MODEL_LOCK_SPACE,
    REPAIR_LOCK_SPACE,
    Database,
)
from embedfleet_schema.database_errors import Blocked
from embedfleet_schema.leadership import PROVIDER_BATCHES
from embedfleet_schema.migrate import migrate
from embedfleet_schema.store.sweep import sweep
from embedfleet_workers import sweeper
from embedfleet_workers.sweeper import Sweeper
from plugins.fleets import ask, batches_of, drain
from plugins.pauses import beside, commit, documents, end
from plugins.worker_processes import eventually

WAIT_S = 0.2


@pytest.fixture
def impatient(fleet):
    """The fleet, as somebody sees it who does not wait for a minute."""
    settings = fleet.settings.model_copy(update={"lock_wait_seconds": WAIT_S})
    with Fleet(settings) as impatient:
        yield impatient


@pytest.fixture
def docs(fleet, impatient, monkeypatch):
    monkeypatch.setattr(under_test, "TRIES", 2)
    monkeypatch.setattr(under_test, "FIRST_PAUSE_S", 0.0)
    fleet.collection("docs", model="fake/16").enqueue(documents(3))
    return impatient.collection("docs")


@pytest.fixture
def stranger(fleet):
    """A connection of a role that may connect and nothing else, and the role's name."""
    name = f"stranger_{uuid4().hex[:12]}"
    ask(fleet, f"CREATE ROLE {name} LOGIN PASSWORD 'pw'")
    url = make_conninfo(fleet.settings.direct_database, user=name, password="pw")
    with psycopg.connect(url, autocommit=True, application_name="nosy") as conn:
        yield conn, name
    ask(fleet, f"DROP ROLE {name}")


def create(fleet, docs):
    fleet.collection("fresh", model="fake/16")


OPERATIONS = {
    "enqueue": lambda fleet, docs: docs.enqueue([ef.Document("new", "new words")]),
    "delete": lambda fleet, docs: docs.delete(["d0"]),
    "pause": lambda fleet, docs: fleet.jobs()[0].pause(),
    "resume": lambda fleet, docs: fleet.jobs()[0].resume(),
    "cancel": lambda fleet, docs: fleet.jobs()[0].cancel(),
    "drop": lambda fleet, docs: docs.drop(),
    "resume a model": lambda fleet, docs: fleet.resume("fake/16"),
    "audit": lambda fleet, docs: docs.audit(repair=True),
    "migrate": lambda fleet, docs: migrate(fleet.settings.direct_database, lock_wait_s=WAIT_S),
    "create": create,
}


@pytest.mark.parametrize("name", sorted(OPERATIONS.keys() - {"resume a model"}))
def test_who_holds_a_public_number_is_named_by_all_who_wait_for_it(impatient, docs, stranger, name):
    conn, role = stranger
    (hashed,) = ask(impatient, "SELECT hashtext('fresh')")[0]
    for number in (docs.info.id, -1, hashed):
        conn.execute("SELECT pg_advisory_lock(%s, %s)", (LOCK_SPACE, number))
        conn.execute("SELECT pg_advisory_lock(%s, %s)", (REPAIR_LOCK_SPACE, number))
    with pytest.raises(Blocked) as caught:
        OPERATIONS[name](impatient, docs)
    message = str(caught.value)
    assert f"pid {conn.info.backend_pid}, role {role}, nosy" in message
    assert f"pg_terminate_backend({conn.info.backend_pid})" in message
    assert " idle, since 20" in message


@pytest.mark.parametrize("name", sorted(OPERATIONS.keys() - {"migrate", "create"}))
def test_who_holds_the_number_of_a_space_is_named_by_all_in_its_collections(
    impatient, docs, stranger, name
):
    conn, role = stranger
    conn.execute("SELECT pg_advisory_lock(%s, %s)", (MODEL_LOCK_SPACE, docs.info.space_id))
    with pytest.raises(Blocked, match=f"pid {conn.info.backend_pid}, role {role}, nosy"):
        OPERATIONS[name](impatient, docs)


@pytest.mark.parametrize("name", sorted(OPERATIONS.keys() - {"migrate", "create", "audit"}))
def test_who_holds_a_table_is_named_too(impatient, docs, fleet, name):
    with psycopg.connect(fleet.settings.direct_database) as holding:
        holding.execute(
            "LOCK TABLE embedfleet._documents_1, embedfleet.job, embedfleet.batch, embedfleet.space"
        )
        with pytest.raises(
            Blocked, match=f"pid {holding.info.backend_pid}, role {holding.info.user}"
        ):
            OPERATIONS[name](impatient, docs)


def test_a_reader_who_never_ends_is_named_to_who_drops_the_collection(docs, fleet):
    with psycopg.connect(fleet.settings.direct_database) as reading:
        reading.execute("SELECT count(*) FROM embedfleet.docs")
        with pytest.raises(
            Blocked, match=f"pid {reading.info.backend_pid}, role {reading.info.user}"
        ):
            docs.drop()


def test_a_build_of_an_index_waits_for_older_transactions_however_long(docs, fleet):
    """And says for whom; what it has built would be lost otherwise."""
    with psycopg.connect(fleet.settings.direct_database) as older:
        older.execute(f"INSERT INTO embedfleet.{docs.info.vectors} SELECT WHERE false")
        older.execute("SELECT pg_current_xact_id()")
        building = beside(lambda: docs.index(memory_mb=8, workers=0))
        waited = (
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
            " AND wait_event_type = 'Lock' AND clock_timestamp() - query_start > %s"
        )
        limit = timedelta(seconds=3 * WAIT_S)
        # Not by `older`: what a transaction has read of pg_stat_activity stays as it was.
        eventually(lambda: ask(fleet, waited, limit))
        assert f"for the transaction of pid {older.info.backend_pid}" in _Phases(fleet, docs).now()
    end(building)
    assert docs.counts().indexed


def test_a_role_without_rights_on_statistics_learns_pid_and_role(fleet, docs, stranger):
    conn, role = stranger
    other = f"other_{uuid4().hex[:12]}"
    ask(fleet, f"CREATE ROLE {other} LOGIN PASSWORD 'pw'")
    ask(fleet, f"GRANT ALL ON SCHEMA embedfleet TO {other}")
    ask(fleet, f"GRANT ALL ON ALL TABLES IN SCHEMA embedfleet TO {other}")
    url = make_conninfo(fleet.settings.direct_database, user=other, password="pw")
    conn.execute("SELECT pg_advisory_lock(%s, %s)", (LOCK_SPACE, docs.info.id))
    try:
        database = Database(url, lock_wait_s=WAIT_S)
        with pytest.raises(Blocked) as caught, database.transaction() as waiting:
            waiting.execute("SELECT pg_advisory_xact_lock(%s, %s)", (LOCK_SPACE, docs.info.id))
        database.close()
        assert f"pid {conn.info.backend_pid}, role {role}, nosy. " in str(caught.value)
    finally:
        ask(fleet, f"DROP OWNED BY {other}")
        ask(fleet, f"DROP ROLE {other}")


def test_an_enqueue_goes_on_when_the_lock_comes_free_in_time(impatient, docs, stranger, caplog):
    conn, role = stranger
    conn.execute("SELECT pg_advisory_lock(%s, %s)", (LOCK_SPACE, docs.info.id))
    caplog.clear()

    def let_go(pause):
        conn.execute("SELECT pg_advisory_unlock_all()")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(under_test.time, "sleep", let_go)
        job = docs.enqueue([ef.Document("new", "new words")])
    assert (1, 0) == (job.status.documents, job.status.rejected)
    assert f"role {role}" in caplog.text


def test_a_commit_that_is_kept_waiting_is_repeated_and_nothing_is_lost(
    fleet, docs, stranger, worker
):
    conn, _ = stranger
    hasty = Database(fleet.settings.database, lock_wait_s=WAIT_S)
    store = batches_of(fleet)
    lease = store.claim("cpu")
    store._db = hasty
    conn.execute("SELECT pg_advisory_lock(%s, %s)", (LOCK_SPACE, docs.info.id))
    with pytest.raises(psycopg.OperationalError):
        commit(store, lease)
    conn.execute("SELECT pg_advisory_unlock_all()")
    commit(store, lease)
    hasty.close()
    drain(worker())
    assert "done" == fleet.jobs()[0].status.state


def test_who_keeps_all_others_from_sweeping_is_named(fleet, stranger, monkeypatch, caplog):
    conn, role = stranger
    conn.execute("SELECT pg_advisory_lock(%s, 0)", (LOCK_SPACE,))
    assert sweep(fleet.db) is None
    monkeypatch.setattr(sweeper, "STUCK_S", 0.0)
    watching = Sweeper(fleet.db, fleet.doorbell, every_s=60)
    watching._sweep()
    watching._sweep()
    assert f"pid {conn.info.backend_pid}, role {role}" in caplog.text
    caplog.clear()
    conn.execute("SELECT pg_advisory_unlock_all()")
    watching._sweep()
    assert "" == caplog.text


def test_doctor_names_who_holds_a_lock_for_long(fleet, docs, stranger, command, monkeypatch):
    conn, role = stranger
    monkeypatch.setattr(database_diagnosis, "HELD_LONG_S", 0.0)
    for number in (docs.info.id, 0, PROVIDER_BATCHES):
        conn.execute("SELECT pg_advisory_lock(%s, %s)", (LOCK_SPACE, number))
    conn.execute("SELECT pg_advisory_lock(%s, 7)", (MODEL_LOCK_SPACE,))
    shown = command("doctor").out
    who = f"pid {conn.info.backend_pid}, role {role}, nosy"
    assert f"warning locks          the lock of sweep is held by {who}" in shown
    assert f"the lock of collection {docs.info.id} is held by {who}" in shown
    assert f"the lock of space 7 is held by {who}" in shown
    assert f"ok      batch API      has {who}" in shown


def test_a_statement_of_ours_waits_no_longer_than_it_is_told(fleet):
    limit = sql.SQL("SHOW lock_timeout")
    with fleet.db.transaction() as pooled, fleet.db.connect() as alone:
        assert ("1min",) == pooled.execute(limit).fetchone() == alone.execute(limit).fetchone()
