"""Who writes to a synced table: needs no right of ours, and never fails because of us."""

from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest

from embedfleet.errors import SyncRefused
from embedfleet.fleet import Fleet
from embedfleet_schema.settings import load_settings
from plugins.fleets import ask, drain
from plugins.synced_tables import FOLLOWED, in_table, run, texts


@pytest.fixture
def stranger(fleet):
    """The URL of a user with no right of ours."""
    name = f"stranger_{uuid4().hex[:12]}"
    url = urlsplit(fleet.settings.direct_database)
    ask(fleet, f"CREATE ROLE {name} LOGIN PASSWORD 'pw'")
    yield name, url._replace(netloc=f"{name}:pw@{url.hostname}:{url.port}").geturl()
    ask(fleet, f"DROP OWNED BY {name}")
    ask(fleet, f"DROP ROLE {name}")


@pytest.fixture
def writer(fleet, articles, stranger):
    """A session of somebody who may write to the table, and the warnings that it hears."""
    name, url = stranger
    ask(fleet, f"GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON public.articles TO {name}")
    heard = []
    with psycopg.connect(url, autocommit=True) as conn:
        conn.add_notice_handler(lambda notice: heard.append(notice.severity))
        yield conn, heard


def test_a_writer_needs_no_right_on_the_fleet(fleet, worker, articles, writer):
    conn, heard = writer
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute("SELECT FROM embedfleet.sync_outbox")
    conn.execute("UPDATE public.articles SET body = 'by a stranger' WHERE id = 1")
    conn.execute("DELETE FROM public.articles WHERE id = 2")
    articles.catch_up()
    drain(worker())
    assert in_table(fleet) == texts(fleet)
    conn.execute("TRUNCATE public.articles")
    articles.catch_up()
    assert ({}, []) == (texts(fleet), heard)


OBSTACLES = {
    "the outbox is gone": "DROP TABLE embedfleet.sync_outbox",
    "it has another shape": "ALTER TABLE embedfleet.sync_outbox RENAME sync_id TO other",
    "it takes nothing": "ALTER TABLE embedfleet.sync_outbox ADD CHECK (sync_id < 0)",
    "the fleet is gone": "ALTER SCHEMA embedfleet RENAME TO elsewhere",
}


@pytest.mark.parametrize("obstacle", OBSTACLES.values(), ids=OBSTACLES)
def test_a_statement_goes_through_whatever_the_outbox_says(fleet, articles, writer, obstacle):
    conn, heard = writer
    run(fleet, obstacle)
    conn.execute("UPDATE public.articles SET body = 'written' WHERE id = 1")
    conn.execute("INSERT INTO public.articles VALUES (9, 'nine')")
    conn.execute("DELETE FROM public.articles WHERE id = 2")
    conn.execute("TRUNCATE public.articles")
    if "SCHEMA" in obstacle:
        run(fleet, "ALTER SCHEMA elsewhere RENAME TO embedfleet")
    assert ["WARNING"] * 4 == heard
    assert [] == ask(fleet, "SELECT FROM public.articles")


def test_a_statement_does_not_wait_for_who_locks_the_outbox(fleet, articles, writer):
    conn, heard = writer
    articles.catch_up()
    with fleet.db.connect() as holder:
        holder.execute("LOCK TABLE embedfleet.sync_outbox IN ACCESS EXCLUSIVE MODE")
        conn.execute("UPDATE public.articles SET body = 'written' WHERE id = 1")
    assert ["WARNING"] == heard
    assert 1 == articles.verify().changed


def test_a_statement_inside_a_long_transaction_is_noted_with_its_savepoints(
    fleet, articles, writer
):
    conn, heard = writer
    with conn.transaction():
        conn.execute("UPDATE public.articles SET body = 'kept' WHERE id = 1")
        with conn.transaction(force_rollback=True):
            conn.execute("UPDATE public.articles SET body = 'not kept' WHERE id = 2")
        conn.execute("UPDATE public.articles SET body = 'kept' WHERE id = 3")
    found = ask(fleet, "SELECT keys FROM embedfleet.sync_outbox ORDER BY id")
    assert ([(["1"],), (["3"],)], []) == (found, heard)


def test_rows_that_go_with_others_are_noted(fleet, articles, writer):
    ask(fleet, "CREATE TABLE public.langs (name text PRIMARY KEY)")
    ask(fleet, "INSERT INTO public.langs VALUES ('en'), ('de')")
    ask(
        fleet,
        "ALTER TABLE public.articles ADD FOREIGN KEY (lang) REFERENCES public.langs"
        " ON UPDATE CASCADE ON DELETE CASCADE",
    )
    ask(fleet, "UPDATE public.langs SET name = 'eo' WHERE name = 'en'")
    ask(fleet, "DELETE FROM public.langs WHERE name = 'eo'")
    found = ask(fleet, "SELECT keys FROM embedfleet.sync_outbox ORDER BY id")
    assert [["1", "2", "3", "4", "5"]] * 2 == [sorted(keys) for (keys,) in found]


def test_a_merge_notes_what_it_did(fleet, worker, articles, writer):
    conn, _ = writer
    articles.catch_up()
    conn.execute(
        "MERGE INTO public.articles AS a USING (VALUES (1), (2), (9)) AS n (id) ON a.id = n.id"
        " WHEN MATCHED AND a.id = 1 THEN DELETE"
        " WHEN MATCHED THEN UPDATE SET body = 'merged'"
        " WHEN NOT MATCHED THEN INSERT (id, body) VALUES (n.id, 'new')"
    )
    articles.catch_up()
    drain(worker())
    assert in_table(fleet) == texts(fleet)


TRAP = """
CREATE TABLE public.caught (who text);
CREATE TYPE public.trap AS (id int);
CREATE FUNCTION public.spring(trap) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.caught VALUES (current_user);
    RETURN '';
END
$$;
CREATE FUNCTION public.spring_json(trap) RETURNS json LANGUAGE sql AS $$
    SELECT to_json(public.spring($1))
$$;
CREATE CAST (public.trap AS text) WITH FUNCTION public.spring(trap);
CREATE CAST (public.trap AS json) WITH FUNCTION public.spring_json(trap);
CREATE TABLE public.trapped (id int PRIMARY KEY, body trap);
"""


def test_the_owner_of_a_table_runs_nothing_with_the_rights_of_the_fleet(fleet):
    """The cast of a type is code of whoever made it. Nothing of a sync calls one."""
    run(fleet, TRAP)
    sync = fleet.sync("trapped", "fake/16", table="trapped", key="id", text="body", metadata="body")
    ask(fleet, "INSERT INTO public.trapped VALUES (1, ROW(7))")
    ask(fleet, "UPDATE public.trapped SET body = ROW(8)")
    sync.catch_up()
    assert 0 == sync.verify().differences
    assert [] == ask(fleet, "SELECT who FROM public.caught")
    assert ["1"] == [each.key for each in fleet.collection("trapped").documents()]
    run(fleet, "SELECT body::text FROM public.trapped")
    assert 1 == len(ask(fleet, "SELECT who FROM public.caught"))


def test_who_may_not_read_or_trigger_is_told_what_to_grant(fleet, articles, stranger):
    """The user of the fleet, and a table of somebody else."""
    name, url = stranger
    articles.drop()
    ask(fleet, f"GRANT ALL ON SCHEMA embedfleet TO {name}")
    ask(fleet, f"GRANT ALL ON ALL TABLES IN SCHEMA embedfleet TO {name}")
    ask(fleet, f"GRANT ALL ON ALL SEQUENCES IN SCHEMA embedfleet TO {name}")
    ask(fleet, f"GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA embedfleet TO {name}")
    with Fleet(load_settings(database_url=url, redis_url=fleet.settings.redis)) as other:
        for right in ("SELECT", "TRIGGER"):
            with pytest.raises(SyncRefused) as caught:
                other.sync("articles", **FOLLOWED)
            grant = f"GRANT {right} ON public.articles TO {name}"
            assert grant in str(caught.value)
            ask(fleet, grant)


def test_rows_that_a_policy_hides_are_not_taken_for_deleted(fleet, stranger, articles):
    name, url = stranger
    ask(fleet, "ALTER TABLE public.articles ENABLE ROW LEVEL SECURITY")
    ask(fleet, f"GRANT SELECT, TRIGGER ON public.articles TO {name}")
    ask(fleet, f"GRANT USAGE ON SCHEMA embedfleet TO {name}")
    ask(fleet, f"GRANT ALL ON ALL TABLES IN SCHEMA embedfleet TO {name}")
    articles.catch_up()
    other = Fleet(load_settings(database_url=url, redis_url=fleet.settings.redis))
    with other, pytest.raises(SyncRefused, match="BYPASSRLS"):
        other.sync("articles").catch_up()
    assert 5 == len(list(fleet.collection("articles").documents()))
