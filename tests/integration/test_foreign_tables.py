"""The tables of LangChain and LlamaIndex, as their libraries make them, read by URL."""

import json

import psycopg
import pytest

from embedfleet_schema.database_errors import DatabaseUnreachable
from embedfleet_schema.exchange_errors import ImportRefused
from plugins.servers import fresh_database

MODEL = "fake/16"

# As langchain-postgres 0.0.19 (PGVector and PGVectorStore) and llama-index-vector-stores-postgres
# 0.9 make them.
TABLES = """
CREATE EXTENSION vector;
CREATE TABLE langchain_pg_collection (
    uuid uuid PRIMARY KEY, name varchar NOT NULL UNIQUE, cmetadata json
);
CREATE TABLE langchain_pg_embedding (
    id varchar PRIMARY KEY, collection_id uuid REFERENCES langchain_pg_collection,
    embedding vector, document varchar, cmetadata jsonb
);
CREATE SCHEMA "my ""schema";
CREATE TABLE "my ""schema"."new; store" (
    langchain_id uuid PRIMARY KEY, content text NOT NULL, embedding vector(16) NOT NULL,
    lang text, year int, langchain_metadata json
);
CREATE TABLE data_docs (
    id bigserial PRIMARY KEY, text varchar NOT NULL, metadata_ json, node_id varchar,
    embedding vector(16)
);
CREATE TABLE data_half (
    id bigserial PRIMARY KEY, text varchar NOT NULL, metadata_ jsonb, node_id varchar,
    embedding halfvec(16)
);
CREATE TABLE "else" (id int, embedding vector(16));
"""


def unit(number):
    return json.dumps([1.0 if place == number else 0.0 for place in range(16)])


@pytest.fixture
def other_url(stack):
    with fresh_database(stack) as url:
        with psycopg.connect(url) as conn:
            conn.execute(TABLES)
            first, second = (f"00000000-0000-0000-0000-00000000000{n}" for n in (1, 2))
            conn.execute(
                "INSERT INTO langchain_pg_collection VALUES (%s, 'one', NULL), (%s, 'two', NULL)",
                (first, second),
            )
            values = [("a", first, 0), ("b", first, 1), ("c", second, 2)]
            for key, collection, number in values:
                conn.execute(
                    "INSERT INTO langchain_pg_embedding VALUES (%s, %s, %s, %s, %s)",
                    (key, collection, unit(number), f"text {key}", '{"lang": "en"}'),
                )
            conn.execute(
                'INSERT INTO "my ""schema"."new; store" VALUES (%s, %s, %s, %s, %s, %s)',
                (first, "text", unit(3), "de", 2020, '{"x": [1]}'),
            )
            for table in ("data_docs", "data_half"):
                conn.execute(
                    f"INSERT INTO {table} (text, metadata_, node_id, embedding)"
                    " VALUES ('text', '{\"page\": 1}', 'node-1', %s)",
                    (unit(4),),
                )
        yield url


def test_a_collection_of_langchains_former_store(docs, other_url):
    done = docs.import_vectors(other_url, model=MODEL, stored_collection="one").enqueued
    assert (2, 0, 2) == (done.documents, done.rejected, done.imported)
    found = {(hit.document, hit.content, hit.metadata["lang"]) for hit in docs.search("q")}
    assert {("a", "text a", "en"), ("b", "text b", "en")} == found
    again = docs.import_vectors(other_url, model=MODEL, stored_collection="one").enqueued
    assert (0, 2, 0) == (again.documents, again.unchanged, again.imported)


def test_the_table_that_langchain_made_before_it_had_a_package_of_its_own(docs, other_url):
    with psycopg.connect(other_url) as conn:
        conn.execute("ALTER TABLE langchain_pg_embedding RENAME id TO uuid")
    done = docs.import_vectors(other_url, model=MODEL, stored_collection="two").enqueued
    assert (1, 0) == (done.documents, done.rejected)
    assert ["c"] == [each.key for each in docs.documents()]


def test_the_collection_has_to_be_named_where_there_are_several(docs, other_url):
    for name in (None, "three"):
        with pytest.raises(ImportRefused, match="name one of its collections: one, two"):
            docs.import_vectors(other_url, model=MODEL, stored_collection=name)


def test_a_table_of_langchains_newer_store_with_its_own_columns(docs, other_url):
    docs.import_vectors(other_url, model=MODEL, table="new; store", schema='my "schema')
    (hit,) = docs.search(json.loads(unit(3)))
    assert ("text", {"lang": "de", "year": 2020, "x": [1]}) == (hit.content, hit.metadata)
    assert 1.0 == hit.score


@pytest.mark.parametrize("table", ["data_docs", "data_half"])
def test_a_table_of_llamaindex(docs, other_url, table):
    docs.import_vectors(other_url, model=MODEL, table=table)
    (hit,) = docs.search(json.loads(unit(4)))
    assert ("node-1", "text", {"page": 1}, 1.0) == (
        hit.document,
        hit.content,
        hit.metadata,
        hit.score,
    )


def test_a_table_without_rows_is_imported_as_that(docs, other_url):
    with psycopg.connect(other_url) as conn:
        conn.execute("DELETE FROM data_docs")
    done = docs.import_vectors(other_url, model=MODEL, table="data_docs").enqueued
    assert (0, 0) == (done.documents, done.rejected)


@pytest.mark.parametrize(
    ("table", "reason"),
    [("none", "there is no such table"), ("else", "its columns are id, embedding: neither")],
)
def test_a_table_that_is_neither_is_refused(docs, other_url, table, reason):
    with pytest.raises(ImportRefused, match=reason):
        docs.import_vectors(other_url, model=MODEL, table=table)


def test_no_password_is_in_what_is_said(docs, other_url):
    secret = other_url.replace("@", "_wrong@", 1)
    with pytest.raises(DatabaseUnreachable) as refused:
        docs.import_vectors(secret, model=MODEL)
    assert "_wrong" not in str(refused.value)
    with pytest.raises(ImportRefused) as refused:
        docs.import_vectors(other_url, model=MODEL, table="none")
    assert "@" not in str(refused.value)


def test_nothing_is_written_to_the_other_database(docs, other_url, monkeypatch):
    from embedfleet_schema.store import foreign_tables

    rows = foreign_tables.rows(other_url, "data_docs")
    next(rows)
    with psycopg.connect(other_url) as conn:
        (found,) = conn.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND state = 'idle in transaction'"
        ).fetchone()
    assert 1 == found
    rows.close()
