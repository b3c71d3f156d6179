"""What stands in the way of a sync is said in one line, and nothing else stops because of it."""

from threading import Thread

import psycopg
import pytest

from embedfleet.errors import SyncExists, SyncRefused, SyncStopped
from embedfleet.sync_runner import SyncRunner
from plugins.fleets import ask, drain
from plugins.synced_tables import FOLLOWED, ROWS, in_table, run, texts
from plugins.worker_processes import eventually

RUIN = {
    "DROP TABLE public.articles": "the table is gone",
    "ALTER TABLE public.articles RENAME body TO content": "no column 'body'",
    "ALTER TABLE public.articles DROP COLUMN lang": "no column 'lang'",
    "ALTER TABLE public.articles DROP CONSTRAINT articles_pkey": "no unique index is on (id)",
    "ALTER TABLE public.articles DISABLE TRIGGER USER": "ENABLE TRIGGER USER",
    "ALTER TABLE public.articles DISABLE TRIGGER ALL": "ENABLE TRIGGER USER",
}


@pytest.mark.parametrize(("statement", "reason"), RUIN.items(), ids=RUIN)
def test_a_table_that_cannot_be_followed_any_more_is_a_state_with_its_reason(
    fleet, articles, statement, reason
):
    articles.catch_up()
    ask(fleet, statement)
    found = articles.status
    assert ("broken", True) == (found.state, reason in found.problem)
    with pytest.raises((SyncRefused, SyncStopped)) as caught:
        articles.catch_up()
    assert found.problem == str(caught.value)
    assert "\n" not in found.problem


def test_a_table_that_is_changed_goes_on_being_written_to(fleet, articles):
    articles.catch_up()
    ask(fleet, "ALTER TABLE public.articles RENAME body TO content")
    heard = []
    with psycopg.connect(fleet.settings.direct_database) as conn:
        conn.add_notice_handler(lambda notice: heard.append(notice.message_primary))
        conn.execute("UPDATE public.articles SET content = 'still written'")
        conn.commit()
    assert ["still written"] == [
        row for (row,) in ask(fleet, "SELECT DISTINCT content FROM public.articles")
    ]
    (warning,) = heard
    assert "did not note this change of public.articles" in warning


def test_what_was_missed_is_found_when_it_goes_on(fleet, worker, articles):
    articles.catch_up()
    ask(fleet, "ALTER TABLE public.articles DISABLE TRIGGER USER")
    with pytest.raises(SyncStopped):
        articles.catch_up()
    ask(fleet, "UPDATE public.articles SET body = 'unnoticed' WHERE id = 1")
    ask(fleet, "ALTER TABLE public.articles ENABLE TRIGGER USER")
    articles.catch_up()
    assert ("following", True) == ((now := articles.status).state, now.verify_due)
    assert 1 == articles.verify().changed
    assert not articles.status.verify_due
    drain(worker())
    assert in_table(fleet) == texts(fleet)


def test_a_column_of_another_type_is_followed_and_compared(fleet, worker, articles):
    articles.catch_up()
    ask(fleet, "ALTER TABLE public.articles ALTER id TYPE bigint, ALTER body TYPE varchar(100)")
    ask(fleet, "UPDATE public.articles SET body = 'after it' WHERE id = 2")
    articles.catch_up()
    assert articles.status.verify_due
    assert 0 == articles.verify().differences
    drain(worker())
    assert in_table(fleet) == texts(fleet)


def test_keys_that_cannot_be_any_more_have_no_row(fleet, worker):
    ask(fleet, "CREATE TABLE public.named (name text PRIMARY KEY, body text)")
    ask(fleet, "INSERT INTO public.named VALUES ('1', 'one'), ('x', 'two')")
    sync = fleet.sync("named", "fake/16", table="named", key="name", text="body")
    sync.catch_up()
    ask(fleet, "DELETE FROM public.named WHERE name = 'x'")
    ask(fleet, "UPDATE public.named SET body = 'three'")
    ask(fleet, "ALTER TABLE public.named ALTER name TYPE int USING name::int")
    sync.catch_up()
    drain(worker())
    assert {"1": "three"} == texts(fleet, "named")


def test_a_renamed_table_is_followed_under_its_new_name(fleet, worker, articles):
    articles.catch_up()
    ask(fleet, "ALTER TABLE public.articles RENAME TO papers")
    ask(fleet, "UPDATE public.papers SET body = 'in papers' WHERE id = 1")
    articles.catch_up()
    drain(worker())
    assert ("public.papers", "title 1\n\nin papers") == (articles.status.table, texts(fleet)["1"])
    assert 0 == articles.verify().differences


def test_a_table_that_is_made_anew_is_followed_again_by_creating_the_sync_again(
    fleet, worker, articles
):
    articles.catch_up()
    drain(worker())
    with fleet.db.transaction() as conn:
        conn.execute("CREATE TABLE public.other (LIKE public.articles INCLUDING ALL)")
        conn.execute("DROP TABLE public.articles")
        conn.execute("ALTER TABLE public.other RENAME TO articles")
        conn.execute(ROWS, (4, 8))
    assert "the table is gone" in articles.status.problem
    fleet.sync("articles", **FOLLOWED)
    ask(fleet, ROWS, 9, 9)
    articles.catch_up()
    assert (4, 3) == ((found := articles.verify()).missing + 1, found.extra)
    drain(worker())
    assert in_table(fleet) == texts(fleet)


REFUSED = {
    "CREATE VIEW public.t AS SELECT 1 AS id, ''::text AS body": "it is a view",
    "CREATE MATERIALIZED VIEW public.t AS SELECT 1 AS id, ''::text AS body": "a materialized view",
    "CREATE TABLE public.t (id int, body text)": "id may be NULL",
    "CREATE TABLE public.t (id int NOT NULL, body text)": "no unique index is on (id)",
    "CREATE TABLE public.t (id int PRIMARY KEY, other text)": "no column 'body'",
    "CREATE TABLE public.p (id int PRIMARY KEY, body text);"
    "CREATE TABLE public.t (PRIMARY KEY (id)) INHERITS (public.p)": "it inherits",
    "CREATE TABLE public.p (id int PRIMARY KEY, body text) PARTITION BY RANGE (id);"
    "CREATE TABLE public.t PARTITION OF public.p DEFAULT": "follow the table that it belongs to",
    "CREATE TYPE public.pair AS (a int); CREATE TABLE public.t (id pair PRIMARY KEY, body text)": (
        "is not PostgreSQL's own"
    ),
    "SELECT 1": "no such table",
}


@pytest.mark.parametrize(("statement", "reason"), REFUSED.items(), ids=REFUSED)
def test_what_cannot_be_followed_is_refused_and_nothing_is_left(fleet, statement, reason):
    docs = fleet.collection("docs", model="fake/16")
    run(fleet, statement)
    with pytest.raises(SyncRefused) as caught:
        fleet.sync("docs", table="t", key="id", text="body")
    assert reason in str(caught.value)
    assert [] == fleet.syncs()
    assert [] == list(docs.documents())
    assert [] == ask(fleet, "SELECT proname FROM pg_proc WHERE proname ~ '^_sync_[0-9]'")


@pytest.mark.parametrize(
    "name", ["", "a.b.c.d", 'a"b', "1x", "public.", "embedfleet.job", "pg_class"]
)
def test_a_name_of_no_table_of_yours_is_refused(fleet, name):
    fleet.collection("docs", model="fake/16")
    with pytest.raises(SyncRefused):
        fleet.sync("docs", table=name, key="id", text="collection_id")


def test_a_collection_follows_one_table(fleet, articles):
    ask(fleet, "CREATE TABLE public.more (id int PRIMARY KEY, body text)")
    for other in (
        {**FOLLOWED, "metadata": []},
        {"table": "more", "key": "id", "text": "body"},
    ):
        with pytest.raises(SyncExists, match="embedfleet sync drop articles"):
            fleet.sync("articles", **other)


@pytest.fixture
def runner(fleet):
    """Follows all syncs beside the test."""
    runner = SyncRunner(fleet)
    thread = Thread(target=runner.run)
    thread.start()
    yield runner
    runner.stop()
    thread.join()


def documents(fleet, name):
    return {each.key for each in fleet.collection(name).documents()}


def test_a_process_follows_all_syncs_and_one_that_is_broken_stops_no_other(fleet, articles, runner):
    ask(fleet, "CREATE TABLE public.more (id int PRIMARY KEY, body text)")
    ask(fleet, "INSERT INTO public.more VALUES (1, 'one')")
    fleet.sync("more", "fake/16", table="more", key="id", text="body")
    eventually(lambda: len(documents(fleet, "articles")) == 5 and documents(fleet, "more"))
    ask(fleet, "DROP TABLE public.articles")
    ask(fleet, "INSERT INTO public.more VALUES (2, 'two')")
    eventually(lambda: {"1", "2"} == documents(fleet, "more"))
    broken = "SELECT problem FROM embedfleet.table_sync WHERE problem IS NOT NULL"
    eventually(lambda: ask(fleet, broken))
    assert 5 == len(documents(fleet, "articles"))


def test_a_process_compares_what_was_missed_by_itself(fleet, articles, runner):
    eventually(lambda: articles.status.backfilled_at is not None)
    eventually(lambda: articles.status.waits)
    with fleet.db.transaction() as conn:
        conn.execute("SET LOCAL session_replication_role = replica")
        conn.execute("UPDATE public.articles SET body = 'unseen' WHERE id = 2")
        conn.execute("UPDATE embedfleet.table_sync SET verified_at = now() - interval '2 days'")
    eventually(lambda: articles.status.differences == 1)
