"""What plain SQL gets from an index: as many rows as it asks for, where the database says so."""

from urllib.parse import urlsplit
from uuid import uuid4

import numpy as np
import psycopg
import pytest
from psycopg import sql

from embedfleet_schema.database_errors import NotPermitted
from embedfleet_schema.store.scan_defaults import are_set, set_defaults
from plugins.filled_collections import fill


@pytest.fixture
def docs(fleet):
    """An index over enough rows for PostgreSQL to use it."""
    docs = fleet.collection("docs", model="fake/32")
    vectors = np.random.default_rng(7).normal(size=(2_000, 32)).astype(np.float32)
    fill(fleet, docs, vectors, [{}] * len(vectors))
    docs.index()
    return docs


def of_database(fleet, change):
    with psycopg.connect(fleet.settings.direct_database, autocommit=True) as conn:
        name = sql.Identifier(conn.info.dbname)
        # Where pgvector is not loaded, only a superuser may set what is its own.
        conn.execute("SELECT '[1]'::vector")
        conn.execute(sql.SQL("ALTER DATABASE {} " + change).format(name))


def rows(fleet, docs):
    """How many a new session gets of a hundred."""
    vector = str(docs.embed_query("x").tolist())
    nearest = "SELECT id FROM embedfleet.docs ORDER BY embedding <=> %s::vector LIMIT 100"
    with psycopg.connect(fleet.settings.direct_database) as conn:
        return len(conn.execute(nearest, [vector]).fetchall())


def finding(command):
    (found,) = [each for each in command("doctor", "--json").json if each["subject"] == "plain SQL"]
    return found["level"], found["advice"]


def test_the_embedded_server_gives_plain_sql_what_it_asks_for(fleet, docs, command):
    assert 100 == rows(fleet, docs)
    assert ("ok", "") == finding(command)
    assert "--set-defaults" not in command("migrate").err


def test_a_database_can_be_told_to_give_plain_sql_what_it_asks_for(fleet, docs, command):
    of_database(fleet, "SET hnsw.iterative_scan = off")
    of_database(fleet, "SET hnsw.ef_search = 40")
    assert 40 == rows(fleet, docs)
    assert ("warning", "embedfleet migrate --set-defaults") == finding(command)
    assert "embedfleet migrate --set-defaults" in command("migrate").err

    told = command("migrate", "--set-defaults")
    assert (0, "") == (told.code, told.err)
    assert "until the LIMIT is reached" in told.out
    assert 100 == rows(fleet, docs)
    assert ("ok", "") == finding(command)


def test_the_owner_of_a_database_needs_no_other_right(fleet, stack):
    owner = f"owner_{uuid4().hex[:12]}"
    url = urlsplit(fleet.settings.database)
    login = url._replace(netloc=f"{owner}:pw@{url.hostname}:{url.port}").geturl()
    of_database(fleet, "SET hnsw.iterative_scan = off")
    with psycopg.connect(stack.database_url, autocommit=True) as conn:
        conn.execute(f"CREATE ROLE {owner} LOGIN PASSWORD 'pw'")
        with pytest.raises(NotPermitted, match="owner"):
            set_defaults(login)
        assert not are_set(fleet.db)
        of_database(fleet, f"OWNER TO {owner}")
        set_defaults(login)
        assert are_set(fleet.db)
        of_database(fleet, "OWNER TO CURRENT_USER")
        conn.execute(f"DROP ROLE {owner}")
