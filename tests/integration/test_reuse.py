"""A text that another collection of the space has is copied, not embedded again."""

import psycopg
import pytest

from embedfleet import Document
from embedfleet_schema.errors import ReuseMismatch
from embedfleet_schema.statements import load
from embedfleet_schema.store import reuse
from embedfleet_schema.types import text_table
from plugins.fleets import ask
from plugins.pipelines import ScriptedEmbedder, finish, pipeline_around
from plugins.query_plans import buffers_read, most_read


def asked_pipeline(fleet, docs):
    """A pipeline and the texts that its embedder was asked for."""
    asked = []

    def answer(texts, vectors):
        asked.extend(texts)
        return vectors

    pipeline, _ = pipeline_around(fleet, ScriptedEmbedder(docs.info.space, answer))
    return pipeline, asked


def enqueued(fleet, name, *texts):
    docs = fleet.collection(name, model="fake/16")
    docs.enqueue([Document(key=text, text=text) for text in texts])
    return docs


def test_only_what_no_other_collection_has_is_embedded(fleet):
    first = enqueued(fleet, "first", "one", "two")
    pipeline, asked = asked_pipeline(fleet, first)
    finish(fleet, pipeline)
    second = enqueued(fleet, "second", "two", "three")
    finish(fleet, pipeline)
    assert ["one", "three", "two"] == sorted(asked)
    assert second.audit().clean
    assert {"two", "three"} == {hit.document for hit in second.search("two", k=5)}


def test_a_batch_that_is_all_there_costs_no_call(fleet):
    first = enqueued(fleet, "first", "one", "two")
    pipeline, asked = asked_pipeline(fleet, first)
    finish(fleet, pipeline)
    asked.clear()
    job = fleet.collection("second", model="fake/16").enqueue(
        [Document(key="a", text="one"), Document(key="b", text="two")]
    )
    assert ["done"] == finish(fleet, pipeline)
    assert [] == asked
    assert ("done", 2) == (job.status.state, job.status.embedded)


def test_vectors_of_another_space_are_not_taken(fleet):
    pipeline, asked = asked_pipeline(fleet, enqueued(fleet, "first", "one"))
    finish(fleet, pipeline)
    wide = fleet.collection("wide", model="fake/32")
    wide.enqueue([Document(key="a", text="one")])
    pipeline, asked = asked_pipeline(fleet, wide)
    finish(fleet, pipeline)
    assert ["one"] == asked


def test_a_collection_that_is_dropped_at_that_moment_is_no_obstacle(fleet, monkeypatch):
    pipeline, asked = asked_pipeline(fleet, enqueued(fleet, "first", "one"))
    finish(fleet, pipeline)
    second = enqueued(fleet, "second", "one")
    asked.clear()
    found = reuse.siblings

    def dropped_now(conn, collection):
        others = found(conn, collection)
        with psycopg.connect(fleet.db.url, autocommit=True) as other:
            other.execute(f"DROP TABLE embedfleet.{text_table(others[0])} CASCADE")
        return others

    monkeypatch.setattr(reuse, "siblings", dropped_now)
    finish(fleet, pipeline)
    assert ["one"] == asked
    assert second.audit().clean


def test_a_collection_that_keeps_to_itself_neither_gives_nor_takes(fleet):
    private = fleet.collection("private", model="fake/16", reuse="none")
    private.enqueue([Document("a", "one")])
    pipeline, asked = asked_pipeline(fleet, private)
    finish(fleet, pipeline)
    shared = fleet.collection("shared", model="fake/16")
    assert 0 == shared.plan([Document("a", "one")]).elsewhere
    assert 0 == shared.enqueue([Document("a", "one")]).enqueued.elsewhere
    finish(fleet, pipeline)
    assert ["one", "one"] == asked
    other = fleet.collection("other", model="fake/16", reuse="none")
    assert 0 == other.plan([Document("a", "one")]).elsewhere
    assert 0 == other.enqueue([Document("a", "one")]).enqueued.elsewhere
    finish(fleet, pipeline)
    assert ["one", "one", "one"] == asked


def test_a_collection_is_not_opened_as_if_it_kept_to_itself(fleet):
    enqueued(fleet, "shared", "one")
    for model in ("fake/16", None):
        with pytest.raises(ReuseMismatch, match="made with reuse 'space', not 'none'"):
            fleet.collection("shared", model, reuse="none")
    assert "space" == fleet.collection("shared", reuse="space").info.reuse


@pytest.mark.parametrize("counted", [True, False])
def test_who_has_the_same_model_is_found_among_any_number_of_collections(fleet, counted):
    mine = [enqueued(fleet, name, "one").info for name in ("first", "second")]
    other = fleet.collection("wide", model="fake/32").info
    ask(
        fleet,
        "INSERT INTO embedfleet.collection (name, space_id, chunk_size, chunk_overlap, chunk_mode,"
        " tokenizer, queue) SELECT 'c' || n, %s, 0, 0, 'text', '', 'cpu'"
        " FROM generate_series(1, 10000) AS n",
        other.space_id,
    )
    if counted:
        ask(fleet, "ANALYZE embedfleet.collection")
    values = {"space_id": mine[0].space_id, "collection_id": mine[0].id, "limit": 16}
    values["precision"] = None
    statement = load("reuse")["siblings"].as_string()
    for mode in ("force_custom_plan", "force_generic_plan"):
        with fleet.db.transaction() as conn, conn.transaction():
            assert [mine[1].id] == reuse.siblings(conn, mine[0])
            conn.execute(f"SET LOCAL plan_cache_mode = {mode}")
            explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"
            explained = conn.execute(explain, values, prepare=True).fetchall()
        assert 10 > most_read(explained)
        assert 10 > buffers_read(explained)
