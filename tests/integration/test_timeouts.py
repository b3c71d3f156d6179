"""Roles whose statements and transactions may take a moment only: what takes longer is done."""

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

import embedfleet as ef
from embedfleet_schema.database import LOCK_SPACE
from embedfleet_schema.database_errors import DatabaseError
from embedfleet_schema.migrate import migrate
from embedfleet_schema.store import documents as stored
from embedfleet_schema.store.sweep import sweep
from plugins.fleets import ask, drain
from plugins.pauses import beside, documents, end
from plugins.worker_processes import eventually

# Long enough for a busy machine to connect in.
LIMIT_S = 2.0
LIMITS = (
    "statement_timeout",
    "lock_timeout",
    "transaction_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
)


def limits_of(conn):
    """Those that the server knows: PostgreSQL 16 limits no transactions."""
    known = {name for (name,) in conn.execute("SELECT name FROM pg_settings")}
    return known.intersection(LIMITS)


@pytest.fixture
def hurried(fleet):
    """The database gives everybody that long."""
    name = conninfo_to_dict(fleet.settings.database)["dbname"]
    with psycopg.connect(fleet.settings.direct_database, autocommit=True) as conn:
        for limit in limits_of(conn):
            conn.execute(f"ALTER DATABASE {name} SET {limit} = '{LIMIT_S:g}s'")
    return fleet


@pytest.fixture
def docs(hurried, worker):
    docs = hurried.collection("docs", model="fake/16")
    docs.enqueue(documents(3))
    drain(worker())
    return docs


@pytest.fixture
def holding(hurried):
    """A connection that may take its time."""
    with psycopg.connect(hurried.settings.direct_database) as holding:
        for limit in limits_of(holding):
            holding.execute(f"SET {limit} = 0")
        holding.commit()
        yield holding


def until_somebody_waited_long(conn):
    """Until a statement of another connection waits for longer than the limit."""
    waiting = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND wait_event_type = 'Lock' AND clock_timestamp() - query_start > %s * interval '1 s'"
    )
    eventually(lambda: conn.execute(waiting, (1.2 * LIMIT_S,)).fetchall())


OPERATIONS = {
    "enqueue": lambda fleet, docs: docs.enqueue([ef.Document("d0", "other words")]),
    "index": lambda fleet, docs: docs.index(memory_mb=8, workers=0),
    "audit": lambda fleet, docs: docs.audit(),
    "repair": lambda fleet, docs: docs.audit(repair=True),
    "delete": lambda fleet, docs: docs.delete(["d0"]),
    "prune": lambda fleet, docs: stored.prune(fleet.db, docs.info, [1]),
    "pause": lambda fleet, docs: fleet.jobs()[0].pause(),
    "drop": lambda fleet, docs: docs.drop(),
    "create": lambda fleet, docs: fleet.collection("more", model="fake/16"),
    "sweep": lambda fleet, docs: sweep(fleet.db),
    "migrate": lambda fleet, docs: migrate(fleet.settings.direct_database),
    "counts": lambda fleet, docs: docs.counts(),
}
TABLES = "embedfleet._documents_1, embedfleet._texts_1, embedfleet.job, embedfleet.batch"


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_takes_longer_than_a_role_may_is_done_all_the_same(hurried, docs, holding, name):
    holding.execute(f"LOCK TABLE {TABLES}, embedfleet.{docs.info.vectors}, embedfleet.worker")
    holding.execute("LOCK TABLE embedfleet.collection, embedfleet.alembic_version")
    holding.execute("SELECT pg_advisory_xact_lock(%s, -1)", (LOCK_SPACE,))
    working = beside(lambda: OPERATIONS[name](hurried, docs))
    until_somebody_waited_long(holding)
    holding.rollback()
    end(working)


def test_a_search_takes_no_longer_than_its_role_may(docs, holding):
    holding.execute(f"LOCK TABLE embedfleet.{docs.info.vectors}")
    with pytest.raises(DatabaseError) as refused:
        docs.search([1.0] * 16)
    assert isinstance(refused.value.__cause__, psycopg.errors.QueryCanceled)


def test_a_connection_that_was_idle_for_longer_is_still_good(hurried, docs):
    with hurried.db.transaction() as conn:
        assert ("0",) == conn.execute("SHOW idle_session_timeout").fetchone()
        assert ("1min",) == conn.execute("SHOW idle_in_transaction_session_timeout").fetchone()
        if conn.info.server_version >= 170_000:
            assert ("0",) == conn.execute("SHOW transaction_timeout").fetchone()
    assert [(3,)] == ask(hurried, "SELECT count(*) FROM embedfleet._documents_1")
