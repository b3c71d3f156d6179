"""Setting up the roles as the owner of a database, and as somebody who may not."""

from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest

import embedfleet as ef
from embedfleet.fleet import Fleet
from embedfleet_schema.migrate import migrate
from embedfleet_schema.roles import ROLES
from embedfleet_schema.settings import load_settings


@pytest.fixture
def landlord(stack, monkeypatch, command):
    """The URL of a database that belongs to a user who may create roles, and to whom we log in."""
    name = f"landlord_{uuid4().hex[:12]}"
    url = urlsplit(stack.database_url)
    with psycopg.connect(stack.database_url, autocommit=True) as conn:
        conn.execute(f"CREATE ROLE {name} LOGIN CREATEROLE PASSWORD 'pw'")
        conn.execute(f"CREATE DATABASE {name} OWNER {name}")
        with psycopg.connect(url._replace(path=f"/{name}").geturl(), autocommit=True) as own:
            own.execute("CREATE EXTENSION vector")
        login = url._replace(netloc=f"{name}:pw@{url.hostname}:{url.port}", path=f"/{name}")
        monkeypatch.setenv("EMBEDFLEET_DATABASE_URL", login.geturl())
        yield login.geturl()
        conn.execute(f"DROP DATABASE {name} WITH (FORCE)")
        for role in (*ROLES, name):
            conn.execute(f"DROP ROLE IF EXISTS {role}")


def may(url: str, role: str, relation: str, right: str) -> bool:
    with psycopg.connect(url) as conn:
        asked = "SELECT has_table_privilege(%s, %s, %s)"
        return conn.execute(asked, (f"embedfleet_{role}", relation, right)).fetchone()[0]


def test_the_owner_of_a_database_sets_up_the_roles_and_goes_on_as_before(landlord, command):
    assert 0 == command("migrate").code
    with Fleet(load_settings(database_url=landlord)) as fleet:
        before = fleet.collection("before", model="fake/16")
        done = command("migrate", "--roles")
        assert 0 == done.code, done.err
        assert "set up the roles embedfleet_owner, embedfleet_producer" in done.out
        after = fleet.collection("after", model="fake/16")
        for docs in (before, after):
            assert may(landlord, "worker", f"embedfleet.{docs.info.vectors}", "INSERT")
            assert may(landlord, "search", f"embedfleet.{docs.name}", "SELECT")
        assert after.index(memory_mb=8, workers=0) is not None
        before.drop()
        assert ["after"] == [docs.name for docs in fleet.collections()]


def test_setting_up_the_roles_again_changes_nothing(landlord, command):
    assert 0 == command("migrate", "--roles").code
    again = command("migrate", "--roles", "--json")
    assert (0, list(ROLES)) == (again.code, again.json["roles"])


def test_a_set_up_that_is_cut_off_between_collections_goes_on_where_it_was(
    landlord, stack, command
):
    """Until then the fleet works as before: nobody has lost a right, and new collections come."""
    assert 0 == command("migrate").code
    with Fleet(load_settings(database_url=landlord)) as fleet:
        made = [fleet.collection(f"c{n}", model="fake/16") for n in range(8)]
        database = urlsplit(landlord)._replace(netloc=urlsplit(stack.database_url).netloc).geturl()
        with psycopg.connect(database, autocommit=True) as conn:
            table = f"embedfleet.{made[6].info.texts}"
            conn.execute(f"ALTER TABLE {table} OWNER TO CURRENT_USER")
            assert "must be owner" in command("migrate", "--roles").err
            conn.execute(f"ALTER TABLE {table} OWNER TO {urlsplit(landlord).username}")
        for docs in made:
            assert 1 == docs.enqueue([ef.Document("one", "a text")]).status.documents
        fleet.collection("later", model="fake/16")
        assert may(landlord, "search", "embedfleet.later", "SELECT")
        done = command("migrate", "--roles")
        assert 0 == done.code, done.err
        for docs in made:
            assert may(landlord, "search", f"embedfleet.{docs.name}", "SELECT")
            assert may(landlord, "worker", f"embedfleet.{docs.info.texts}", "DELETE")


def test_what_a_person_granted_on_a_collection_goes_and_what_was_taken_comes_back(
    landlord, command
):
    assert 0 == command("migrate", "--roles").code
    with Fleet(load_settings(database_url=landlord)) as fleet:
        info = fleet.collection("docs", model="fake/16").info
    documents = f"embedfleet.{info.documents}"
    with psycopg.connect(landlord, autocommit=True) as conn:
        conn.execute("SET ROLE embedfleet_owner")
        conn.execute(f"GRANT UPDATE (digest) ON {documents} TO embedfleet_search")
        conn.execute(f"GRANT TRUNCATE ON embedfleet.{info.texts} TO embedfleet_worker")
        conn.execute(f"REVOKE UPDATE (live_version) ON {documents} FROM embedfleet_worker")
    migrate(landlord)
    asked = "SELECT has_column_privilege(%s, %s, %s, 'UPDATE')"
    with psycopg.connect(landlord) as conn:
        search = ("embedfleet_search", documents, "digest")
        assert conn.execute(asked, search).fetchone() == (False,)
        worker = ("embedfleet_worker", documents, "live_version")
        assert conn.execute(asked, worker).fetchone() == (True,)
    assert not may(landlord, "worker", f"embedfleet.{info.texts}", "TRUNCATE")


def test_a_later_migration_renews_the_rights(landlord, command):
    assert 0 == command("migrate", "--roles").code
    with psycopg.connect(landlord, autocommit=True) as conn:
        conn.execute("REVOKE SELECT ON embedfleet.batch FROM embedfleet_worker")
    assert not may(landlord, "worker", "embedfleet.batch", "SELECT")
    migrate(landlord)
    assert may(landlord, "worker", "embedfleet.batch", "SELECT")


@pytest.fixture
def administrator(landlord, stack):
    """A superuser in the database of the landlord."""
    netloc = urlsplit(stack.database_url).netloc
    url = urlsplit(landlord)._replace(netloc=netloc).geturl()
    with psycopg.connect(url, autocommit=True) as conn:
        yield conn


def test_pgvector_is_asked_for_only_where_it_is_missing(landlord, administrator, command):
    """A provider that keeps a list of extensions refuses the statement before it does nothing."""
    administrator.execute(
        "CREATE FUNCTION public.refuse() RETURNS event_trigger LANGUAGE plpgsql AS "
        "$$BEGIN RAISE 'not on the list'; END$$"
    )
    administrator.execute(
        "CREATE EVENT TRIGGER refuse ON ddl_command_start WHEN tag IN ('CREATE EXTENSION') "
        "EXECUTE FUNCTION public.refuse()"
    )
    done = command("migrate")
    assert 0 == done.code, done.err


def test_an_owner_who_may_not_create_pgvector_is_told_in_one_line(landlord, administrator, command):
    administrator.execute("DROP EXTENSION vector")
    refused = command("migrate")
    assert 1 == refused.code
    assert 'permission denied to create extension "vector"' in refused.err
    assert "have an administrator run: CREATE EXTENSION vector" in refused.err


def test_an_owner_who_may_not_use_the_schema_of_pgvector_is_told_in_one_line(
    landlord, administrator, command
):
    administrator.execute("CREATE SCHEMA hidden")
    administrator.execute("ALTER EXTENSION vector SET SCHEMA hidden")
    refused = command("migrate")
    assert 1 == refused.code
    assert "permission denied for schema hidden" in refused.err
    administrator.execute(f"GRANT USAGE ON SCHEMA hidden TO {urlsplit(landlord).username}")
    assert 0 == command("migrate").code


def test_who_may_not_create_roles_is_told_who_may(landlord, stack, command):
    with psycopg.connect(stack.database_url, autocommit=True) as conn:
        conn.execute(f"ALTER ROLE {urlsplit(landlord).username} NOCREATEROLE")
    refused = command("migrate", "--roles")
    assert 1 == refused.code
    assert "permission denied to create role" in refused.err
    assert "CREATEROLE" in refused.err
    assert ":pw@" not in refused.err
