"""Nothing that others made is run with our rights, wherever they put it and whatever its name."""

from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from embedfleet.fleet import Fleet
from embedfleet_schema.database import Database
from embedfleet_schema.database_errors import CodeOfOthers
from embedfleet_schema.migrate import migrate
from embedfleet_schema.roles import ROLES, set_up_roles
from embedfleet_schema.settings import load_settings

FIXED = "pg_catalog, pg_temp"

# Runs whenever somebody with more rights calls it, and gives them to the landlord.
TRAP = """
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = session_user AND rolsuper) THEN
        RESET ROLE;
        EXECUTE 'ALTER ROLE {landlord} SUPERUSER';
    END IF;
    RETURN {answer};
END
"""


@pytest.fixture
def landlord(stack):
    """The owner of a database, who is no superuser, and the URLs of both: his and a superuser's."""
    name = f"landlord_{uuid4().hex[:12]}"
    url = urlsplit(stack.database_url)
    admin = url._replace(path=f"/{name}").geturl()
    with psycopg.connect(stack.database_url, autocommit=True) as conn:
        conn.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'pw'")
        conn.execute(f"CREATE DATABASE {name} OWNER {name}")
        with psycopg.connect(admin, autocommit=True) as own:
            own.execute("CREATE EXTENSION vector")
        login = url._replace(netloc=f"{name}:pw@{url.hostname}:{url.port}", path=f"/{name}")
        yield name, login.geturl(), admin
        conn.execute(f"DROP DATABASE {name} WITH (FORCE)")
        for role in (*ROLES, name):
            conn.execute(f"DROP ROLE IF EXISTS {role}")


def trap(name, answer, arguments, returns):
    body = TRAP.format(landlord=name, answer=answer)
    return f"({arguments}) RETURNS {returns} LANGUAGE plpgsql AS $trap${body}$trap$"


def is_superuser(url, name):
    with psycopg.connect(url) as conn:
        asked = "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = %s"
        return conn.execute(asked, (name,)).fetchone()[0]


def operator(name):
    return [
        "CREATE FUNCTION public.trap" + trap(name, "true", "oid, regrole", "boolean"),
        "CREATE OPERATOR public.<> (LEFTARG = oid, RIGHTARG = regrole, FUNCTION = public.trap)",
    ]


def function(name):
    return [
        "CREATE FUNCTION public.format" + trap(name, "'SELECT 1'", "text, name", "text"),
        "CREATE FUNCTION public.format" + trap(name, "'SELECT 1'", "text, text", "text"),
    ]


def settings(name):
    arguments = "text, text, boolean"
    return [
        "CREATE FUNCTION public.set_config" + trap(name, "'x'", arguments, "text"),
        "CREATE FUNCTION public.current_setting" + trap(name, "'180000'", "text", "text"),
        "CREATE FUNCTION public.quote_ident" + trap(name, f"'{name}'", "text", "text"),
    ]


def catalog(name):
    return [
        "CREATE FUNCTION public.trap" + trap(name, "'x'", "", "text"),
        "CREATE VIEW public.pg_namespace AS SELECT *, public.trap() FROM pg_catalog.pg_namespace",
        "CREATE VIEW public.pg_class AS SELECT *, public.trap() FROM pg_catalog.pg_class",
        "CREATE VIEW public.pg_roles AS SELECT rolname, public.trap() FROM pg_catalog.pg_roles",
    ]


@pytest.mark.parametrize("plant", [operator, function, settings, catalog])
def test_who_owns_a_database_does_not_become_superuser_when_roles_are_set_up(landlord, plant):
    name, login, admin = landlord
    migrate(login)
    with psycopg.connect(login, autocommit=True) as conn:
        for statement in plant(name):
            conn.execute(statement)
        conn.execute(f"ALTER DATABASE {name} SET search_path = public, pg_catalog")
    migrate(admin)
    set_up_roles(admin)
    migrate(admin)
    with Database(admin).connect() as conn:
        conn.execute("SELECT 1")
    assert not is_superuser(admin, name)


def test_a_function_of_the_former_owner_is_not_called(landlord):
    name, login, admin = landlord
    with Fleet(load_settings(database_url=login)) as fleet:
        migrate(login)
        fleet.collection("docs", model="fake/16")
    with psycopg.connect(login, autocommit=True) as conn:
        made = "CREATE OR REPLACE FUNCTION embedfleet.grant_relations"
        body = TRAP.format(landlord=name, answer="").replace("RETURN ;", "RETURN;")
        signature = "(vectors text, view text) RETURNS void LANGUAGE plpgsql"
        conn.execute(f"{made}{signature} AS $trap${body}$trap$")
    set_up_roles(admin)
    assert not is_superuser(admin, name)


HUNG = [
    "CREATE TRIGGER t BEFORE UPDATE ON embedfleet.alembic_version EXECUTE FUNCTION public.trap()",
    "CREATE RULE r AS ON UPDATE TO embedfleet.alembic_version DO ALSO SELECT public.trapped()",
    "ALTER TABLE embedfleet.alembic_version ADD CHECK (public.trapped())",
    "ALTER TABLE embedfleet.alembic_version ADD COLUMN c boolean DEFAULT public.trapped()",
    "CREATE POLICY p ON embedfleet.alembic_version USING (public.trapped())",
    "CREATE INDEX ON embedfleet.job (public.trapped(id))",
]


@pytest.mark.parametrize("hang", HUNG)
def test_what_the_owner_hung_on_our_tables_is_refused_to_a_superuser(
    landlord, hang, command, monkeypatch
):
    name, login, admin = landlord
    migrate(login)
    with psycopg.connect(login, autocommit=True) as conn:
        conn.execute("CREATE FUNCTION public.trap" + trap(name, "NEW", "", "trigger"))
        conn.execute("CREATE FUNCTION public.trapped" + trap(name, "true", "", "boolean"))
        indexed = trap(name, "true", "bigint", "boolean")
        conn.execute("CREATE FUNCTION public.trapped" + indexed + " IMMUTABLE")
        conn.execute(hang)
        conn.execute("UPDATE embedfleet.alembic_version SET version_num = '0006'")
    with pytest.raises(CodeOfOthers, match="as the owner"):
        migrate(admin)
    monkeypatch.setenv("EMBEDFLEET_DATABASE_URL", admin)
    assert (
        "broken  tables         they call code that is not part of embedfleet"
        in command("doctor").out
    )
    assert not is_superuser(admin, name)


def test_every_connection_has_the_path_whatever_the_url_the_role_or_the_database_say(fleet):
    url = make_conninfo(fleet.settings.database, options="-c search_path=public -c work_mem=5MB")
    name = urlsplit(fleet.settings.database).path[1:]
    with fleet.db.transaction() as conn:
        conn.execute(f"ALTER DATABASE {name} SET search_path = public, embedfleet")
    database = Database(url)
    try:
        with database.connect() as alone, database.transaction() as pooled:
            for conn in (alone, pooled):
                assert (FIXED,) == conn.execute("SHOW search_path").fetchone()
                assert ("5MB",) == conn.execute("SHOW work_mem").fetchone()
    finally:
        database.close()


def test_it_has_it_after_an_index_was_built(fleet):
    docs = fleet.collection("docs", model="fake/16")
    docs.index(memory_mb=8, workers=0)
    with fleet.db.transaction() as conn:
        assert (FIXED,) == conn.execute("SHOW search_path").fetchone()
        for limit in ("idle_in_transaction_session_timeout", "lock_timeout"):
            assert ("1min",) == conn.execute(f"SHOW {limit}").fetchone()
        built_with = ("maintenance_work_mem", "max_parallel_maintenance_workers")
        changed = "SELECT name FROM pg_settings WHERE name = ANY (%s) AND setting <> reset_val"
        assert [] == conn.execute(changed, (list(built_with),)).fetchall()


def test_every_function_of_ours_has_the_path(migrated_url):
    with psycopg.connect(migrated_url) as conn:
        found = conn.execute(
            "SELECT proname, proconfig FROM pg_proc"
            " WHERE pronamespace = 'embedfleet'::regnamespace ORDER BY proname"
        ).fetchall()
    assert found
    # A procedure that commits can have no settings. It names all with its schema, which is tried
    # with a path where everything else is found (test_query_requests.py).
    without = [name for name, set_ in found if f"search_path={FIXED}" not in (set_ or [])]
    assert ["embed"] == without


@pytest.mark.parametrize("schema", ["public", "Vec tors"])
def test_pgvector_may_be_in_any_schema(database_url, schema):
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
        conn.execute(f'CREATE EXTENSION vector SCHEMA "{schema}"')
    migrate(database_url)
    with Fleet(load_settings(database_url=database_url)) as fleet:
        for storage in ("vector", "halfvec"):
            docs = fleet.collection(f"of_{storage}", model="fake/16", storage=storage)
            docs.enqueue([])
            assert docs.index(memory_mb=8, workers=0) is not None
            assert [] == docs.search([1.0] * 16)
