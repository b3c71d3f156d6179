"""What a session holds before and after our transactions: nothing is relied on, nothing is left."""

from contextlib import suppress

import psycopg
import pytest

import embedfleet as ef
from embedfleet_schema.database import Database, OwnConnection
from embedfleet_schema.store.temp_tables import TABLES
from plugins.fleets import drain
from plugins.worker_processes import eventually

# As `begin` sets them, and as somebody may have left them.
OURS = {
    "search_path": "pg_catalog, pg_temp",
    "transaction_isolation": "read committed",
    "statement_timeout": "0",
    "lock_timeout": "1min",
    "idle_in_transaction_session_timeout": "1min",
    "intervalstyle": "postgres",
    "standard_conforming_strings": "on",
}
LEFT_BEHIND = {
    "search_path": "public",
    "default_transaction_isolation": "serializable",
    "statement_timeout": "5s",
    "lock_timeout": "1ms",
    "idle_in_transaction_session_timeout": "1ms",
    "intervalstyle": "iso_8601",
    "standard_conforming_strings": "off",
    "datestyle": "German",
}
# As releases before 0.1.0 left it in the session.
OLD_TABLE = "CREATE TEMP TABLE incoming_chunk (key text) ON COMMIT DELETE ROWS"


@pytest.fixture
def session(fleet):
    """The one session that all transactions of the fleet run in, with nothing set."""
    fleet.db.max_connections = 1
    with fleet.db.transaction():
        pass
    with fleet.db._pool.connection() as conn:
        pass
    return conn


def shown(conn, names):
    return {name: conn.execute(f"SHOW {name}").fetchone()[0] for name in names}


def test_nothing_of_ours_stays_in_a_session(fleet, session, worker):
    docs = fleet.collection("docs", model="fake/16")
    docs.enqueue([ef.Document("a", "some words")])
    drain(worker())
    docs.search("some words")
    with psycopg.connect(fleet.settings.direct_database, autocommit=True) as fresh:
        expected = shown(fresh, LEFT_BEHIND)
    assert expected == shown(session, LEFT_BEHIND)
    temporary = (
        "SELECT relname, pg_relation_size(oid) FROM pg_class"
        " WHERE relnamespace = pg_my_temp_schema() AND relkind = 'r'"
    )
    left = session.execute(temporary).fetchall()
    ours = {table.as_string(None).strip('"') for table in TABLES.values()}
    assert [] == [(name, size) for name, size in left if size or name not in ours]


def test_nothing_that_others_left_in_a_session_reaches_us(fleet, session, worker):
    for name, value in LEFT_BEHIND.items():
        session.execute(f"SET {name} = '{value}'")
    with fleet.db.transaction() as conn:
        assert conn is session
        assert OURS == shown(conn, OURS)
        assert conn.execute("SHOW datestyle").fetchone()[0].startswith("ISO")
    docs = fleet.collection("docs", model="fake/16")
    docs.enqueue([ef.Document("a", "some words")])
    drain(worker())
    assert ["a"] == [hit.document for hit in docs.search("some words")]


def test_a_temporary_table_of_another_version_is_not_written_to(fleet, session):
    docs = fleet.collection("docs", model="fake/16")
    session.execute(OLD_TABLE)
    job = docs.enqueue([ef.Document("a", "some words")])
    assert 1 == job.enqueued.documents


def test_a_failure_that_nobody_was_told_of_is_no_commit(fleet):
    def swallow():
        with fleet.db.transaction() as conn, suppress(psycopg.errors.DivisionByZero):
            conn.execute("SELECT 1 / 0")

    with pytest.raises(psycopg.errors.InFailedSqlTransaction, match="nothing was committed"):
        swallow()
    with fleet.db.transaction() as conn:
        assert (1,) == conn.execute("SELECT 1").fetchone()


def test_a_connection_that_was_lost_while_idle_is_replaced(fleet):
    own = OwnConnection(fleet.db)
    find = "SELECT pg_backend_pid()"
    with fleet.db.transaction() as conn, own.transaction() as alone:
        lost = [one.execute(find).fetchone()[0] for one in (conn, alone)]
    with psycopg.connect(fleet.settings.direct_database, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) AS p (pid)", [lost])
        gone = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = ANY (%s))"
        eventually(lambda: admin.execute(gone, [lost]).fetchone()[0])
    with own.transaction() as alone, fleet.db.transaction() as conn:
        assert not {one.execute(find).fetchone()[0] for one in (conn, alone)} & set(lost)
    own.close()


def test_what_runs_often_is_prepared_where_no_pooler_is(migrated_url, pytestconfig):
    database = Database(migrated_url, max_connections=1)
    for _ in range(10):
        with database.transaction() as conn:
            conn.execute("SELECT %s::int", [1])
            known = conn.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()[0]
    database.close()
    assert bool(known) is not pytestconfig.getoption("--pooler")
