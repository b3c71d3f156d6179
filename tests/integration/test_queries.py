"""The cache of query vectors: here, then in the database, else the model."""

import numpy as np
import psycopg
import pytest

from embedfleet.query_vectors import QueryVectors
from embedfleet_schema.database import Database
from embedfleet_schema.migrate import migrate
from embedfleet_schema.store import query_cache
from plugins.revisions import upgrade

API_MODEL = "openai/text-embedding-3-small"
QUESTION = "how do I reset my password?"


class Counted:
    """A vector that tells which call it came from."""

    def __init__(self):
        self.asked = []

    def __call__(self, collection, text):
        self.asked.append(text)
        return np.full(collection.space.dimensions, len(self.asked), dtype=np.float32)


@pytest.fixture
def embed():
    return Counted()


@pytest.fixture
def api_docs(fleet):
    return fleet.collection("api", model=API_MODEL).info


def age(fleet, days):
    with fleet.db.transaction() as conn:
        conn.execute(
            "UPDATE embedfleet.query_vector SET used_at = now() - make_interval(days => %s)",
            [days],
        )


def ages(fleet):
    with fleet.db.transaction() as conn:
        rows = conn.execute(
            "SELECT extract(day FROM now() - used_at)::int FROM embedfleet.query_vector"
        ).fetchall()
    return [days for (days,) in rows]


def test_a_query_is_embedded_once_in_a_process(fleet, embed):
    docs = fleet.collection("docs", model="fake/16").info
    vectors = QueryVectors(fleet.db, embed)
    assert 1.0 == vectors.vector(docs, QUESTION)[0]
    assert 1.0 == vectors.vector(docs, QUESTION)[0]
    assert [QUESTION] == embed.asked


def test_a_query_of_an_api_is_paid_for_once_in_all_processes(fleet, api_docs, embed):
    first = QueryVectors(fleet.db, embed).vector(api_docs, QUESTION)
    second = QueryVectors(fleet.db, embed).vector(api_docs, QUESTION)
    np.testing.assert_array_equal(first, second)
    assert (1_536,) == second.shape
    assert [QUESTION] == embed.asked


def test_queries_of_a_local_model_stay_out_of_the_database(fleet, embed):
    docs = fleet.collection("docs", model="fake/16").info
    QueryVectors(fleet.db, embed).vector(docs, QUESTION)
    assert query_cache.find(fleet.db, docs.space_id, QUESTION) is None


def test_the_same_query_in_another_space_is_another_vector(fleet, api_docs, embed):
    other = fleet.collection("large", model="openai/text-embedding-3-large").info
    vectors = QueryVectors(fleet.db, embed)
    assert 1.0 == vectors.vector(api_docs, QUESTION)[0]
    assert 2.0 == vectors.vector(other, QUESTION)[0]


def test_a_database_that_is_away_costs_a_call_and_no_error(api_docs, embed):
    away = Database("postgresql://nobody@127.0.0.1:1/nothing")
    assert 1.0 == QueryVectors(away, embed).vector(api_docs, QUESTION)[0]


def test_the_database_holds_no_text_of_a_query(fleet, api_docs, embed):
    QueryVectors(fleet.db, embed).vector(api_docs, QUESTION)
    with fleet.db.transaction() as conn:
        (row,) = conn.execute("SELECT q::text FROM embedfleet.query_vector AS q").fetchall()
    assert "password" not in row[0]


def test_what_is_used_is_marked_at_most_once_a_day(fleet, api_docs, embed):
    QueryVectors(fleet.db, embed).vector(api_docs, QUESTION)
    age(fleet, 3)
    QueryVectors(fleet.db, embed).vector(api_docs, QUESTION)
    assert [0] == ages(fleet)


def test_what_nobody_asks_for_in_a_month_is_forgotten(fleet, api_docs, embed):
    QueryVectors(fleet.db, embed).vector(api_docs, QUESTION)
    assert 0 == query_cache.forget(fleet.db)
    age(fleet, 31)
    assert 1 == query_cache.forget(fleet.db)


def test_the_longest_unused_of_too_many_are_forgotten(fleet, api_docs):
    vector = np.ones(3, dtype=np.float32)
    for text in ("old", "new"):
        age(fleet, 1)
        query_cache.remember(fleet.db, api_docs.space_id, text, vector)
    assert 1 == query_cache.forget(fleet.db, kept=1)
    assert query_cache.find(fleet.db, api_docs.space_id, "old") is None
    np.testing.assert_array_equal(vector, query_cache.find(fleet.db, api_docs.space_id, "new"))


def test_a_vector_that_a_caller_got_is_his_own(fleet):
    docs = fleet.collection("docs", model="fake/16")
    docs.embed_query(QUESTION)[:] = 0.0
    assert 0.0 != docs.embed_query(QUESTION)[0]


def test_a_role_without_the_right_searches_all_the_same(fleet, api_docs, embed):
    class Refusing(Database):
        def connection(self):
            raise psycopg.errors.InsufficientPrivilege

    assert 1.0 == QueryVectors(Refusing(fleet.db.url), embed).vector(api_docs, QUESTION)[0]


def test_what_is_no_vector_of_the_model_is_not_taken_from_the_cache(fleet, api_docs, embed):
    QueryVectors(fleet.db, embed).vector(api_docs, QUESTION)
    with fleet.db.transaction() as conn:
        conn.execute("UPDATE embedfleet.query_vector SET embedding = '[1,2]'")
    assert 2.0 == QueryVectors(fleet.db, embed).vector(api_docs, QUESTION)[0]


@pytest.mark.parametrize(
    ("column", "stored", "error"),
    [
        ("embedding", "[]", psycopg.errors.DataException),
        ("embedding", "[NaN]", psycopg.errors.DataException),
        ("embedding", str([1] * 16_001), psycopg.errors.ProgramLimitExceeded),
        ("sha256", bytes(31), psycopg.errors.CheckViolation),
        ("sha256", bytes(1_000_000), psycopg.errors.CheckViolation),
    ],
)
def test_a_row_of_the_cache_is_no_larger_than_a_vector(
    fleet, api_docs, embed, column, stored, error
):
    QueryVectors(fleet.db, embed).vector(api_docs, QUESTION)
    with pytest.raises(error), fleet.db.transaction() as conn:
        conn.execute(f"UPDATE embedfleet.query_vector SET {column} = %s", [stored])


def test_the_longest_vector_fits(fleet, api_docs, embed):
    QueryVectors(fleet.db, embed).vector(api_docs, QUESTION)
    with fleet.db.transaction() as conn:
        longest = str([1] * 16_000)
        conn.execute("UPDATE embedfleet.query_vector SET embedding = %s", [longest])


def test_what_was_too_large_before_goes_when_the_tables_are_upgraded(database_url):
    """And what fits stays."""
    upgrade(database_url, "0006")
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute(
            "INSERT INTO embedfleet.space (fingerprint, provider, model, revision, dimensions,"
            " max_tokens, pooling, normalized, document_prompt, query_prompt, storage, metric)"
            " VALUES ('', '', '', '', 1, 1, '', true, '', '', 'vector', 'cosine')"
        )
        put = "INSERT INTO embedfleet.query_vector (space_id, sha256, embedding) VALUES (1, %s, %s)"
        for key, embedding in ((bytes(32), bytes(8)), (bytes(31), bytes(8)), (b"x" * 32, b"abc")):
            conn.execute(put, (key, embedding))
        upgrade(database_url, "0007")
        assert [(bytes(32),)] == conn.execute(
            "SELECT sha256 FROM embedfleet.query_vector"
        ).fetchall()
        migrate(database_url)
        assert [] == conn.execute("SELECT FROM embedfleet.query_vector").fetchall()


def test_a_collection_has_a_number_that_fits_a_lock(fleet, api_docs):
    with pytest.raises(psycopg.errors.CheckViolation), fleet.db.transaction() as conn:
        conn.execute(
            "INSERT INTO embedfleet.collection (id, name, space_id, chunk_size, chunk_overlap,"
            " chunk_mode, tokenizer, queue) OVERRIDING SYSTEM VALUE"
            " VALUES (2147483648, 'far', %s, 1, 0, '', '', 'cpu')",
            [api_docs.space_id],
        )
