"""Setting up the roles as the owner of a database, and as somebody who may not."""

from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest

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


def test_a_later_migration_renews_the_rights(landlord, command):
    assert 0 == command("migrate", "--roles").code
    with psycopg.connect(landlord, autocommit=True) as conn:
        conn.execute("REVOKE SELECT ON embedfleet.batch FROM embedfleet_worker")
    assert not may(landlord, "worker", "embedfleet.batch", "SELECT")
    migrate(landlord)
    assert may(landlord, "worker", "embedfleet.batch", "SELECT")


def test_who_may_not_create_roles_is_told_who_may(landlord, stack, command):
    with psycopg.connect(stack.database_url, autocommit=True) as conn:
        conn.execute(f"ALTER ROLE {urlsplit(landlord).username} NOCREATEROLE")
    refused = command("migrate", "--roles")
    assert 1 == refused.code
    assert "permission denied to create role" in refused.err
    assert "CREATEROLE" in refused.err
    assert ":pw@" not in refused.err
