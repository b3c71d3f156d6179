"""Catalogs of pgai that its versions and its users make, as `import pgai` reads them.

What its installer makes is tested with pgai itself: `make test-integrations`.
"""

import json

import psycopg
import pytest

from embedfleet import pgai
from embedfleet.pgai import Wanted, take_over
from embedfleet_schema.errors import UsageError
from embedfleet_schema.exchange_errors import ImportRefused
from embedfleet_schema.store.pgai import vectorizers

CATALOG = """
CREATE SCHEMA ai;
CREATE TABLE ai.vectorizer (
    id int PRIMARY KEY, source_schema name, source_table name, source_pk jsonb, queue_schema name,
    queue_table name, queue_failed_table name, config jsonb, name name, disabled boolean
);
CREATE TABLE ai.q (tenant text, "Number" int);
CREATE TABLE ai.failed (tenant text, "Number" int);
CREATE SCHEMA "odd ""schema";
CREATE TABLE "odd ""schema"."Posts; --" (
    tenant text, "Number" int, body text, title text, raw bytea, "when" timestamptz,
    vector vector(16), PRIMARY KEY (tenant, "Number")
);
CREATE TABLE "odd ""schema".store (
    tenant text, "Number" int, chunk_seq int, chunk text, embedding vector(16)
);
"""
KEYS = [{"attname": "Number", "pknum": 2}, {"attname": "tenant", "pknum": 1}]
SOURCE = 'odd "schema', "Posts; --"
TABLE = {"implementation": "table", "target_schema": SOURCE[0], "target_table": "store"}
COLUMN = {"implementation": "column", "embedding_column": "vector"}
WANTED = Wanted("posts", "fake/16")


def unit(number):
    return json.dumps([1.0 if place == number else 0.0 for place in range(16)])


def config(**parts):
    return {
        "embedding": {"implementation": "ollama", "model": "m", "dimensions": 16},
        "chunking": {"implementation": "none"},
        "loading": {"implementation": "column", "column_name": "body"},
        "formatting": {"implementation": "python_template", "template": "$chunk"},
        "destination": TABLE,
    } | parts


@pytest.fixture
def catalog(fleet):
    """Adds a vectorizer to pgai's catalog, and runs other statements there."""
    url = fleet.settings.database
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("SET search_path TO public")
        conn.execute(CATALOG)

        def add(number=1, name="posts", **parts):
            conn.execute(
                "INSERT INTO ai.vectorizer VALUES (%s, %s, %s, %s, 'ai', 'q', 'failed', %s, %s)",
                (number, *SOURCE, json.dumps(KEYS), json.dumps(config(**parts)), name),
            )
            return conn

        yield add


def insert(conn, tenant, number, *, body="A text.", title="T", vector=None):
    conn.execute(
        'INSERT INTO "odd ""schema"."Posts; --" VALUES (%s, %s, %s, %s, \'raw\', %s, %s)',
        (tenant, number, body, title, "2026-01-02T03:04:05Z", vector),
    )


def store(conn, tenant, number, position, text, vector):
    conn.execute(
        'INSERT INTO "odd ""schema".store VALUES (%s, %s, %s, %s, %s)',
        (tenant, number, position, text, vector),
    )


def test_keys_of_several_columns_are_arrays_and_odd_names_are_quoted(fleet, catalog):
    conn = catalog()
    insert(conn, "a", 1)
    store(conn, "a", 1, 0, "one", unit(0))
    store(conn, "a", 1, 1, "two", unit(1))
    (made,) = take_over(fleet, wanted=WANTED)
    assert (None, 1, 2) == (made.refused, made.documents, made.chunks)
    (hit,) = fleet.collection("posts").search(json.loads(unit(1)), k=1)
    assert ('["a", "1"]', 1, "two") == (hit.document, hit.position, hit.content)
    assert {"title": "T", "when": "2026-01-02T03:04:05+00:00"} == hit.metadata
    words = """--table '"odd ""schema"."Posts; --"' --key tenant,Number --text body"""
    assert f"embedfleet sync create posts {words} --metadata title,when" == made.sync


def test_a_document_that_lacks_a_chunk_is_rejected_and_its_neighbours_are_taken(fleet, catalog):
    conn = catalog()
    for number, positions in ((1, (0, 2)), (2, (0, 1))):
        insert(conn, "a", number)
        for position in positions:
            store(conn, "a", number, position, f"text {number} {position}", unit(position))
    (made,) = take_over(fleet, wanted=WANTED)
    assert (1, 1) == (made.enqueued.documents, made.enqueued.rejected)
    assert ["MISSING_CHUNKS"] == [each.code for each in made.enqueued.rejections]


def test_a_vector_in_a_column_is_not_taken_for_a_text_that_has_changed(fleet, catalog):
    conn = catalog(destination=COLUMN)
    for number in range(5):
        insert(conn, "a", number, body=f"Text {number}.", vector=unit(number))
    insert(conn, "a", 5, body="", vector=unit(5))
    insert(conn, "a", 6)
    conn.execute("INSERT INTO ai.q VALUES ('a', 1), ('a', 1)")
    conn.execute("INSERT INTO ai.failed VALUES ('a', 2)")
    (made,) = take_over(fleet, wanted=WANTED)
    assert (3, 3, 2) == (made.documents, made.enqueued.imported, made.waiting)
    taken = {each.key for each in fleet.collection("posts").documents()}
    assert {'["a", "0"]', '["a", "3"]', '["a", "4"]'} == taken


def test_the_template_of_a_column_is_filled_in_as_pgai_does(fleet, catalog):
    formatting = {"template": "$title ($when, $$) $chunk: ${Number}"}
    conn = catalog(destination=COLUMN, formatting=formatting)
    insert(conn, "a", 1, vector=unit(0))
    insert(conn, "a", 2, title=None, vector=unit(1))
    take_over(fleet, wanted=WANTED)
    found = [hit.content for hit in fleet.collection("posts").search(json.loads(unit(0)), k=2)]
    when = "2026-01-02 03:04:05+00:00"
    assert [f"T ({when}, $) A text.: 1", f"None ({when}, $) A text.: 2"] == found


def test_a_catalog_of_before_version_0_10_says_the_same(fleet, catalog):
    conn = catalog()
    conn.execute("ALTER TABLE ai.vectorizer DROP name, DROP disabled, DROP queue_failed_table")
    conn.execute("ALTER TABLE ai.vectorizer ADD target_schema name, ADD target_table name")
    former = config(chunking={"implementation": "character_text_splitter", "chunk_column": "body"})
    del former["loading"], former["destination"]
    values = (json.dumps(former), SOURCE[0])
    conn.execute("UPDATE ai.vectorizer SET config = %s, target_schema = %s", values)
    conn.execute("UPDATE ai.vectorizer SET target_table = 'store'")
    insert(conn, "a", 1)
    store(conn, "a", 1, 0, "one", unit(0))
    (made,) = take_over(fleet, wanted=WANTED)
    assert ('odd "schema_store', 1) == (made.vectorizer, made.enqueued.imported)
    assert "--text body" in made.sync


def test_what_is_not_of_unit_length_is_stored_as_our_workers_would(fleet, catalog):
    conn = catalog()
    for number in (1, 2):
        insert(conn, "a", number)
    store(conn, "a", 1, 0, "long", json.dumps([3.0, 4.0] + [0.0] * 14))
    store(conn, "a", 2, 0, "zero", json.dumps([0.0] * 16))
    (made,) = take_over(fleet, wanted=WANTED)
    assert ["BAD_VECTOR"] == [each.code for each in made.enqueued.rejections]
    (hit,) = fleet.collection("posts").search([0.6, 0.8] + [0.0] * 14, k=1)
    assert ("long", 1.0) == (hit.content, pytest.approx(hit.score))


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"loading": {"implementation": "uri", "column_name": "body"}}, "are in files"),
        ({"loading": {"implementation": "column", "column_name": "raw"}}, "are in files"),
        ({"formatting": {"template": "$chunk ${"}}, "its template cannot be read"),
        ({"formatting": {"template": "$chunk $nothing"}}, "nothing"),
    ],
)
def test_a_column_whose_texts_are_not_known_is_refused_and_the_next_one_is_taken(
    fleet, catalog, parts, reason
):
    catalog(destination=COLUMN, **parts)
    embedding = {"implementation": "openai", "model": "text-embedding-3-small", "dimensions": 16}
    conn = catalog(2, "other", embedding=embedding)
    insert(conn, "a", 1)
    store(conn, "a", 1, 0, "one", unit(0))
    refused, taken = take_over(fleet)
    assert reason in refused.refused
    assert (None, 1) == (taken.refused, taken.enqueued.imported)


def test_texts_from_files_are_taken_with_their_vectors_and_have_no_sync(fleet, catalog):
    loading = {"implementation": "uri", "column_name": "body"}
    conn = catalog(loading=loading, parsing={"implementation": "docling"})
    insert(conn, "a", 1, body="s3://bucket/a.pdf")
    store(conn, "a", 1, 0, "a page", unit(0))
    (made,) = take_over(fleet, wanted=WANTED)
    assert (1, None) == (made.enqueued.imported, made.sync)
    assert any("loading from uri in body" in what for what in made.not_taken)


@pytest.mark.parametrize(
    ("embedding", "model"),
    [
        ({"implementation": "openai", "model": "x"}, "openai/x"),
        ({"implementation": "voyageai", "model": "voyage-3"}, "voyage/voyage-3"),
        ({"implementation": "litellm", "model": "cohere/embed-v4.0"}, "cohere/embed-v4.0"),
        ({"implementation": "litellm", "model": "jina_ai/v3"}, "jina/v3"),
        (
            {"implementation": "litellm", "model": "vertex_ai/text-embedding-005"},
            "vertex/text-embedding-005",
        ),
        (
            {"implementation": "litellm", "model": "text-embedding-3-small"},
            "openai/text-embedding-3-small",
        ),
        ({"implementation": "ollama", "model": "nomic-embed-text"}, "openai/nomic-embed-text"),
    ],
)
def test_a_model_gets_its_name_here(catalog, fleet, embedding, model):
    catalog(embedding=embedding)
    (found,) = vectorizers(fleet.settings.database)
    assert model == pgai.model_of(found)


def test_a_model_that_has_no_name_here_is_refused_until_a_person_names_it(fleet, catalog):
    embedding = {"implementation": "litellm", "model": "sagemaker/titan", "dimensions": 16}
    catalog(embedding=embedding)
    (made,) = take_over(fleet)
    assert "sagemaker/titan has no name here. Name the same model with --model" in made.refused
    assert [] == fleet.collections()
    (made,) = take_over(fleet, wanted=WANTED)
    assert None is made.refused


def test_a_collection_of_another_model_is_left_alone(fleet, catalog):
    catalog()
    fleet.collection("posts", model="fake/32")
    (made,) = take_over(fleet, wanted=WANTED)
    assert "fake/32" in made.refused


def test_names_that_are_not_there_and_options_of_one_are_refused(fleet, catalog):
    catalog()
    catalog(2, "other")
    with pytest.raises(UsageError, match="has no vectorizer none; there are posts, other"):
        take_over(fleet, names=["none"])
    with pytest.raises(UsageError, match="name one vectorizer for that"):
        take_over(fleet, wanted=WANTED)
    (made,) = take_over(fleet, names=["posts"], wanted=Wanted("p", "fake/16", ("none",)))
    assert "has no column none" in made.refused


def test_a_database_without_pgai_is_refused(fleet, command):
    with pytest.raises(ImportRefused, match="pgai is not installed there"):
        take_over(fleet)
    answer = command("import", "pgai")
    assert 2 == answer.code
    assert "pgai is not installed there" in answer.err


def test_the_command_prints_a_table_and_what_to_type_next(catalog, command):
    conn = catalog(indexing={"implementation": "hnsw", "opclass": "vector_l2_ops"})
    insert(conn, "a", 1)
    store(conn, "a", 1, 0, "A text.", unit(0))
    words = ["import", "pgai", "--model", "fake/16", "--metadata", "title"]
    looked = command(*words, "--dry-run")
    assert (0, 1) == (looked.code, looked.out.count("fake/16"))
    assert "Nothing was written" in looked.err
    assert [] == command("collection", "list", "--json").json
    done = command(*words)
    assert 0 == done.code
    assert "posts: not taken over: index hnsw" in done.out
    assert "keep it in step (nothing is embedded again): embedfleet sync create posts" in done.err
    (again,) = command(*words, "--json").json
    assert (0, 1, 0) == (
        again["enqueued"]["documents"],
        again["enqueued"]["unchanged"],
        again["to_embed"],
    )


def test_the_command_ends_with_1_if_one_was_refused(catalog, command):
    catalog(destination=COLUMN, loading={"implementation": "uri", "column_name": "body"})
    answer = command("import", "pgai")
    assert 1 == answer.code
    assert "posts: The vectorizer posts cannot be taken over" in answer.err


def test_a_file_that_is_called_pgai_is_imported_by_its_path(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pgai").write_text("")
    answer = command("import", "./pgai", "--collection", "x", "--model", "fake/16")
    assert "pgai is not installed" not in answer.err
