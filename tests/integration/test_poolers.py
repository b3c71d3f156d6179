"""Through PgBouncer in transaction mode: what works, what is refused in a line, what is left."""

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import urlsplit

import psycopg
import pytest
import trustme
from psycopg import errors
from psycopg.conninfo import make_conninfo

import embedfleet as ef
from embedfleet.fleet import Fleet
from embedfleet_schema import database
from embedfleet_schema.database import LOCK_SPACES, Database
from embedfleet_schema.database_errors import DatabaseUnreachable, PoolerInTheWay
from embedfleet_schema.migrate import migrate
from embedfleet_schema.passwords import DatabaseUrl, of_function
from embedfleet_schema.settings import load_settings
from embedfleet_workers.embedders.fake import fake_vectors
from embedfleet_workers.runtime import Launch, Runtime
from plugins.fleets import drain
from plugins.poolers import Pooler
from plugins.worker_processes import eventually

pytestmark = pytest.mark.pooler

SESSIONS = (
    "SELECT usename, pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> %s"
    " AND backend_type = 'client backend'"
)


@pytest.fixture
def server(fleet):
    """A session of the server's own, beside the pooler."""
    with psycopg.connect(fleet.settings.direct_database, autocommit=True) as conn:
        yield conn


@pytest.fixture
def unaware(fleet, monkeypatch):
    """The same fleet without the direct URL."""
    monkeypatch.delenv("EMBEDFLEET_DIRECT_DATABASE_URL")
    settings = load_settings(database_url=fleet.settings.database, redis_url=fleet.settings.redis)
    with Fleet(settings) as unaware:
        yield unaware


def test_a_migration_is_refused_and_leaves_neither_lock_nor_settings(fleet, server):
    for _ in range(4):
        with pytest.raises(PoolerInTheWay, match="EMBEDFLEET_DIRECT_DATABASE_URL"):
            migrate(fleet.settings.database)
    held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = ANY (%s::oid[])"
    assert (0,) == server.execute(held, [LOCK_SPACES]).fetchone()
    assert_all_sessions_are_as_new(fleet, server)
    assert migrate(fleet.settings.direct_database)


def assert_all_sessions_are_as_new(fleet, server):
    names = ("search_path", "lock_timeout", "statement_timeout", "tcp_keepalives_idle")
    asked = ", ".join(f"current_setting('{name}')" for name in names)
    expected = server.execute(f"SELECT {asked}").fetchone()
    sessions = {}
    for _ in range(24):
        with psycopg.connect(fleet.settings.database) as conn:
            pid, *found = conn.execute(f"SELECT pg_backend_pid(), {asked}").fetchone()
        sessions[pid] = tuple(found)
    assert {expected} == set(sessions.values())


def test_an_index_is_built_beside_the_pooler_or_refused(fleet, unaware, server):
    fleet.collection("docs", model="fake/16")
    with pytest.raises(PoolerInTheWay, match="is a connection pooler"):
        unaware.collection("docs").index(memory_mb=8, workers=0)
    assert fleet.collection("docs").index(memory_mb=8, workers=0)
    assert_all_sessions_are_as_new(fleet, server)


def test_doctor_tells_of_the_pooler(fleet, command, monkeypatch):
    told = "the URL is one of a pooler: each transaction may get another session"
    assert f"ok      pooler         {told}" in command("doctor").out
    monkeypatch.delenv("EMBEDFLEET_DIRECT_DATABASE_URL")
    examined = command("doctor").out
    assert f"warning pooler         {told}" in examined
    assert "-> set EMBEDFLEET_DIRECT_DATABASE_URL to the server's URL" in examined


def test_one_line_tells_of_a_startup_option_that_a_pooler_does_not_take(fleet):
    url = make_conninfo(fleet.settings.database, options="-c work_mem=5MB")
    with pytest.raises(DatabaseUnreachable, match="unsupported startup parameter: options") as told:
        Database(url).revision()
    assert "\n" not in str(told.value)


def test_a_statement_may_be_repeated_in_any_session(fleet):
    sessions = set()
    for n in range(40):
        with fleet.db.transaction() as conn:
            asked = conn.execute("SELECT %s::int, pg_backend_pid()", [n]).fetchone()
            assert n == asked[0]
            sessions.add(asked[1])
    assert len(sessions) > 1


def test_settings_that_another_client_left_behind_do_not_reach_us(fleet, server):
    left = {"search_path": "public", "datestyle": "German", "lock_timeout": "1ms"}
    touched = set()
    while len(touched) < 3:
        with psycopg.connect(fleet.settings.database) as conn:
            for name, value in left.items():
                conn.execute(f"SET {name} = '{value}'")
            touched.add(conn.execute("SELECT pg_backend_pid()").fetchone()[0])
    seen = set()
    for _ in range(24):
        with fleet.db.transaction() as conn:
            assert ("pg_catalog, pg_temp",) == conn.execute("SHOW search_path").fetchone()
            assert ("1min",) == conn.execute("SHOW lock_timeout").fetchone()
            seen.add(conn.execute("SELECT pg_backend_pid()").fetchone()[0])
    assert touched & seen


def test_more_clients_than_sessions_lose_nothing(fleet, server, worker):
    fleet.collection("docs", model="fake/16")

    def produce(number):
        with Fleet(fleet.settings) as producer:
            texts = [ef.Document(f"{number}-{n}", f"text {number} {n}") for n in range(40)]
            producer.collection("docs").enqueue(texts)

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(produce, range(12)))
        workers = [worker() for _ in range(4)]
        list(threads.map(drain, workers))
    docs = fleet.collection("docs")
    assert (480, 480) == (docs.counts().documents, docs.counts().live_documents)
    assert not docs.audit().missing
    # Those of the pooler, and one of each worker beside it, which hears of queries.
    assert len(server.execute(SESSIONS, [server.info.backend_pid]).fetchall()) <= 6 + len(workers)


@pytest.mark.parametrize("knows_the_server", [True, False])
def test_a_text_is_embedded_by_sql(fleet, unaware, knows_the_server, caplog):
    """A worker that knows the server hears of it at once, another one looks twice a second."""
    caplog.set_level(logging.INFO)
    docs = fleet.collection("docs", model="fake/16")
    settings = fleet.settings if knows_the_server else unaware.settings
    runtime = Runtime(settings, Launch(("cpu",), 1, 1))
    runtime.start()
    try:
        eventually(fleet.workers)
        with psycopg.connect(fleet.settings.database, autocommit=True) as client:
            for n in range(8):
                call = "CALL embedfleet.embed('docs', %s, NULL)"
                (vector,) = client.execute(call, [f"text {n}"], prepare=False).fetchone()
                expected = fake_vectors(docs.info.space, [f"text {n}"], "query")[0]
                assert pytest.approx(expected.tolist()) == json.loads(vector)
        in_transaction = pytest.raises(errors.InvalidTransactionTermination, match="commits, so it")
        with in_transaction, psycopg.connect(fleet.settings.database) as client:
            client.execute("CALL embedfleet.embed('docs', 'a text', NULL)", prepare=False)
        assert knows_the_server != ("behind a pooler, queries are looked for" in caplog.text)
    finally:
        runtime.stop()


@contextmanager
def alone(stack, authority, fleet, **settings):
    """A pooler that nobody else goes through, and the fleet behind it."""
    pooler = Pooler(stack.database_url, authority, **settings)
    try:
        url = pooler.through(fleet.settings.direct_database)
        with Fleet(load_settings(database_url=url, redis_url=fleet.settings.redis)) as through:
            yield pooler, through
    finally:
        pooler.stop()


def test_a_pooler_without_a_session_to_give_is_named(stack, authority, fleet, monkeypatch):
    monkeypatch.setattr(database, "POOL_TIMEOUT_S", 2.0)
    scarce = {"default_pool_size": 1, "min_pool_size": 1, "query_wait_timeout": 1}
    with alone(stack, authority, fleet, **scarce) as (_, through):
        with through.db.transaction() as conn:
            conn.execute("SELECT 1")
        with psycopg.connect(through.settings.database) as holding:
            holding.execute("SELECT 1")
            with pytest.raises(DatabaseUnreachable, match="query_wait_timeout"):
                through.collections()
        assert [] == through.collections()


def test_a_session_that_a_server_ends_in_a_transaction_is_a_lost_connection(fleet, server):
    def lose():
        with fleet.db.transaction() as conn:
            pid = conn.execute("SELECT pg_backend_pid()").fetchone()
            server.execute("SELECT pg_terminate_backend(%s, 10000)", pid)
            conn.execute("SELECT 1")

    with pytest.raises(psycopg.OperationalError):
        lose()
    assert [] == fleet.collections()


def test_a_fleet_goes_on_when_the_pooler_was_restarted(stack, authority, fleet):
    with alone(stack, authority, fleet) as (pooler, through):
        docs = through.collection("docs", model="fake/16")
        docs.enqueue([ef.Document("a", "some words")])
        pooler.restart()
        docs.enqueue([ef.Document("b", "other words")])
        assert 2 == docs.counts().documents


def test_only_a_pooler_of_the_authority_is_believed(fleet, pooler, tmp_path):
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    for changes, reason in (
        ({"sslrootcert": str(other)}, "certificate verify failed"),
        ({"host": "localhost", "hostaddr": "127.0.0.1"}, "does not match host name"),
        ({"sslmode": "disable"}, "SSL required"),
    ):
        with pytest.raises(DatabaseUnreachable, match=reason) as told:
            Database(make_conninfo(fleet.settings.database, **changes)).revision()
        assert "\n" not in str(told.value)


def test_a_token_goes_to_a_server_that_asks_in_clear_only_by_tls(stack, authority, fleet):
    """As IAM has it: the server takes the token in clear, which only TLS protects."""
    token = of_function(lambda: urlsplit(stack.database_url).password)
    settings = {"auth_type": "plain", "client_tls_sslmode": "allow"}
    pooler = Pooler(stack.database_url, authority, **settings)
    try:
        server = urlsplit(stack.database_url)._replace(query="")
        url = pooler.through(server._replace(path=urlsplit(fleet.settings.database).path).geturl())
        assert Database(DatabaseUrl(url, token)).revision() is not None
        for mode in ("disable", "allow", "prefer", "require"):
            plain = make_conninfo(url, sslmode=mode, password="")
            with pytest.raises(DatabaseUnreachable, match='"scram-sha-256" failed'):
                Database(DatabaseUrl(plain, token)).revision()
    finally:
        pooler.stop()


def test_a_pooler_that_keeps_sessions_serves_as_the_direct_url(stack, authority, fleet):
    """As a service has it whose server itself has no address of IPv4."""
    through_sessions = Pooler(stack.database_url, authority, pool_mode="session")
    try:
        direct = through_sessions.through(fleet.settings.direct_database)
        settings = load_settings(
            database_url=fleet.settings.database,
            direct_database_url=direct,
            redis_url=fleet.settings.redis,
        )
        migrate(direct)
        with Fleet(settings) as through:
            docs = through.collection("docs", model="fake/16")
            assert docs.index(memory_mb=8, workers=0)
            through.db.check_direct()
    finally:
        through_sessions.stop()
