"""What must not depend on how many collections there are, on a server with few locks."""

import pytest

import embedfleet as ef
from embedfleet.cli import main
from embedfleet_schema.migrate import migrate
from embedfleet_schema.roles import set_up_roles
from embedfleet_schema.store import provider_batches, spaces
from plugins.few_locks import MORE_THAN_LOCKS, WITH_TABLES, add_collections, add_rows
from plugins.fleets import ask, batches_of


@pytest.fixture
def docs(crowded):
    docs = crowded.collection("docs", model="fake/16")
    docs.enqueue([ef.Document("one", "a text")])
    return docs


def test_a_model_that_many_collections_share_is_paused_and_resumed(crowded, docs, monkeypatch):
    monkeypatch.setattr(spaces.reconciliation, "reconcile", lambda _db: None)
    lease = batches_of(crowded).claim("cpu")
    add_rows(crowded, docs, count=MORE_THAN_LOCKS)
    batches_of(crowded).pause_space(lease, code="insufficient_quota", reason="empty")
    (paused,) = crowded.paused()
    assert ("fake/16", MORE_THAN_LOCKS + 1) == (paused.model, len(paused.collections))
    assert spaces.resume(crowded.db, "fake/16").paused
    assert [] == crowded.paused()


def test_a_provider_batch_with_batches_of_many_collections_is_given_back(crowded, docs):
    add_rows(crowded, docs, delivery="provider_batch", count=MORE_THAN_LOCKS)
    taken = provider_batches.take(crowded.db, docs.info.space_id, "fake/16", price=1.0)
    assert MORE_THAN_LOCKS == taken.requests
    given = provider_batches.give_up(crowded.db, taken, code="expired", reason="?", to_workers=True)
    assert (MORE_THAN_LOCKS, {"cpu"}) == (given.batches, given.queues)


READABLE = """
SELECT count(*) FILTER (WHERE has_table_privilege('embedfleet_search', oid, 'SELECT'))
FROM pg_class WHERE relkind = 'v' AND relnamespace = 'embedfleet'::regnamespace
    AND relname <> 'batch_standing'
"""
NOT_OF_OWNER = """
SELECT relname FROM pg_class WHERE relnamespace = 'embedfleet'::regnamespace
    AND relowner <> 'embedfleet_owner'::regrole
"""


def test_the_roles_are_set_up_and_renewed_for_more_collections_than_there_are_locks(crowded, docs):
    add_collections(crowded, WITH_TABLES)
    url = crowded.settings.database
    set_up_roles(url)
    assert [] == ask(crowded, NOT_OF_OWNER)
    assert [(WITH_TABLES + 1,)] == ask(crowded, READABLE)
    for view in ("docs", *(f"c{n}" for n in range(1, WITH_TABLES + 1))):
        ask(crowded, f"REVOKE SELECT ON embedfleet.{view} FROM embedfleet_search")
    assert [(0,)] == ask(crowded, READABLE)
    migrate(url)
    assert [(WITH_TABLES + 1,)] == ask(crowded, READABLE)


def test_doctor_says_how_many_locks_a_dump_of_so_many_collections_needs(
    crowded, docs, monkeypatch, capsys
):
    add_collections(crowded, 20)
    monkeypatch.setenv("EMBEDFLEET_DATABASE_URL", crowded.settings.database)
    monkeypatch.setenv("EMBEDFLEET_REDIS_URL", crowded.settings.redis)
    main(["doctor"])
    tables = "SELECT count(*) FROM pg_class WHERE relnamespace = 'embedfleet'::regnamespace"
    ((count,),) = ask(crowded, f"{tables} AND relkind = 'r'")
    shown = capsys.readouterr().out
    assert f"pg_dump needs {count} locks at once, and the server has 120" in shown
    assert f"set max_locks_per_transaction to {-(-count // 6)}" in shown
