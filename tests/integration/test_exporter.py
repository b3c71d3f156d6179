"""What only the database and Redis know, as the exporter tells it."""

from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

import embedfleet as ef
from embedfleet.exporter import Exporter, page
from embedfleet_schema.metrics import EXPORTER_METRICS
from embedfleet_schema.roles import ROLES, set_up_roles
from embedfleet_schema.settings import load_settings
from embedfleet_schema.store import monitoring
from plugins.expositions import values
from plugins.fleets import ask, documents, drain

POISON = "a poison text"


@pytest.fixture
def busy(fleet, worker):
    """A fleet in which something has ended, something failed, and something waits."""
    docs = fleet.collection("docs", model="fake/16")
    docs.enqueue([*documents(3), ef.Document("bad", POISON)], lane="interactive")
    drain(worker(fake_faults=f"poison={POISON}"))
    docs.enqueue(documents(20, word="other"), lane="bulk")
    return fleet


def test_a_page_tells_what_waits_what_failed_and_who_is_there(busy):
    found = values(page(busy.settings))
    assert 20 == found["embedfleet_queue_chunks", ("cpu", "bulk")]
    assert 0 == found["embedfleet_queue_chunks", ("cpu", "interactive")]
    assert 0 == found["embedfleet_queue_chunks", ("cuda", "bulk")]
    assert 0 < found["embedfleet_queue_tokens", ("cpu", "bulk")]
    assert 0 < found["embedfleet_queue_batches", ("cpu", "bulk", "pending")]
    assert 0 < found["embedfleet_queue_oldest_seconds", ("cpu", "bulk")]
    assert 0 == found["embedfleet_queue_oldest_seconds", ("cpu", "interactive")]
    assert 0 < found["embedfleet_searchable_seconds", ("cpu", "interactive", "0.95")]
    assert (1, 1) == tuple(
        found[name, ("cpu",)] for name in ("embedfleet_workers_alive", "embedfleet_worker_slots")
    )
    assert 0 == found["embedfleet_workers_alive", ("api",)]
    assert 1 == found["embedfleet_collection_failures", ("docs",)]
    assert 21 == found["embedfleet_collection_documents", ("docs",)]
    assert [1.0] == [value for (name, _), value in found.items() if name == "embedfleet_failures"]
    assert 1 == found["embedfleet_jobs", ("running",)]
    assert 1 == found["embedfleet_database_up", ()] == found["embedfleet_redis_up", ()]


def test_what_is_paused_is_told_with_its_code(busy):
    ask(busy, "UPDATE embedfleet.space SET paused_at = now(), pause_code = 'key_invalid'")
    ask(
        busy,
        "UPDATE embedfleet.job SET paused_at = now(), pause_reason = 'the budget is spent'"
        " WHERE id = (SELECT max(id) FROM embedfleet.job)",
    )
    found = values(page(busy.settings))
    assert 1 == found["embedfleet_space_paused", ("fake/16", "key_invalid")]
    assert 1 == found["embedfleet_jobs", ("budget",)]
    assert 0 == found["embedfleet_jobs", ("running",)]


def test_no_text_key_or_password_is_on_the_page(busy):
    text = page(busy.settings)
    for secret in (POISON, '"bad"', "d1", urlsplit(busy.settings.database).password or "://"):
        assert secret not in text


def test_ten_scrapers_cost_one_look(busy, monkeypatch):
    looks = []
    look = monitoring.samples
    monkeypatch.setattr(monitoring, "samples", lambda db: looks.append(db) or look(db))
    exporter = Exporter(busy.settings, cache_s=3_600)
    first = exporter.samples()
    assert all(exporter.samples() is first for _ in range(9))
    assert 1 == len(looks)
    exporter.close()


def test_a_database_or_a_redis_that_is_away_is_told_and_the_rest_is_there(busy):
    away = {"database_url": "postgresql://u:secret@127.0.0.1:1/none"}
    found = values(page(load_settings(**away, redis_url=busy.settings.redis)))
    assert (0, 1) == (found["embedfleet_database_up", ()], found["embedfleet_redis_up", ()])
    assert ("embedfleet_queue_chunks", ("cpu", "bulk")) not in found
    away = load_settings(database_url=busy.settings.database, redis_url="redis://127.0.0.1:1/0")
    found = values(page(away))
    assert (1, 0) == (found["embedfleet_database_up", ()], found["embedfleet_redis_up", ()])
    assert 20 == found["embedfleet_queue_chunks", ("cpu", "bulk")]


def test_every_sample_has_a_metric_of_the_list_with_its_labels(busy):
    known = {metric.name: len(metric.labels) for metric in EXPORTER_METRICS}
    for sample in monitoring.samples(busy.db):
        assert known[sample.metric] == len(sample.labels), sample


def test_the_monitor_sees_numbers_and_no_texts(stack, busy):
    login, database = f"watcher_{uuid4().hex[:12]}", busy.settings.direct_database
    set_up_roles(database)
    with psycopg.connect(stack.database_url, autocommit=True) as conn:
        conn.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'pw' IN ROLE embedfleet_monitor").format(
                sql.Identifier(login)
            )
        )
    url = urlsplit(database)
    url = url._replace(netloc=f"{login}:pw@{url.netloc.rpartition('@')[2]}").geturl()
    try:
        watching = load_settings(database_url=url, redis_url=busy.settings.redis)
        found = values(page(watching))
        assert 1 == found["embedfleet_database_up", ()]
        assert 20 == found["embedfleet_queue_chunks", ("cpu", "bulk")]
        with psycopg.connect(url, autocommit=True) as conn:
            for column, table in (("texts", "batch"), ("reason", "batch"), ("reason", "failure")):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    conn.execute(f"SELECT {column} FROM embedfleet.{table}")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute("SELECT keys FROM embedfleet.sync_outbox")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute("SELECT * FROM embedfleet.docs")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute("UPDATE embedfleet.job SET paused_at = now()")
    finally:
        with psycopg.connect(stack.database_url, autocommit=True) as conn:
            conn.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(login)))
        with psycopg.connect(database, autocommit=True) as conn:
            for role in ROLES:
                conn.execute(f"REASSIGN OWNED BY {role} TO CURRENT_USER")
                conn.execute(f"DROP OWNED BY {role}")
        with psycopg.connect(stack.database_url, autocommit=True) as conn:
            for role in ROLES:
                conn.execute(f"DROP ROLE IF EXISTS {role}")
