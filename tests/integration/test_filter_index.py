"""The index on metadata: when it is built, what it finds, and who is told that it is missing."""

import json

import numpy as np
import psycopg
import pytest

import embedfleet as ef
from embedfleet_schema.store import filter_index
from plugins.filled_collections import fill
from plugins.fleets import ask

ROWS = 12_000
COMPARED = "SELECT embedfleet.compared(%s, %s::jsonb, %s, 5, %s)"


@pytest.fixture
def docs(fleet):
    """A collection that was created without it."""
    return fleet.collection("docs", model="fake/16", filter_index=False)


@pytest.fixture
def many(fleet, docs):
    """The same with a value that half of the rows have, and one that 12 have."""
    vectors = np.random.default_rng(1).normal(size=(ROWS, 16)).astype(np.float32)
    fill(fleet, docs, vectors, [{"half": n % 2, "rare": n % 1_000} for n in range(ROWS)])
    return docs


def compared(docs, fleet, *wanted, always=False):
    """What the function answers that decides between both ways to search."""
    conditions = json.dumps([[each] for each in wanted])
    ((ids,),) = ask(fleet, COMPARED, docs.info.id, conditions, str([1.0] * 16), always)
    return ids


def nearest(fleet, where):
    rows = ask(
        fleet,
        "SELECT id FROM embedfleet.docs WHERE metadata @> %s::jsonb"
        " ORDER BY (embedding OPERATOR(public.<=>) %s::public.vector) + 0, id LIMIT 5",
        json.dumps(where),
        str([1.0] * 16),
    )
    return [number for (number,) in rows]


def test_few_rows_are_compared_and_many_are_left_to_the_index_of_vectors(fleet, many):
    rare, half, none = {"rare": 7}, {"half": 1}, {"rare": -1}
    assert compared(many, fleet, rare) is None
    many.index(memory_mb=64, workers=0)
    assert nearest(fleet, rare) == compared(many, fleet, rare)
    assert nearest(fleet, rare) == compared(many, fleet, rare, half)
    assert [] == compared(many, fleet, none)
    assert compared(many, fleet, half) is None
    assert nearest(fleet, half) == compared(many, fleet, half, always=True)
    assert nearest(fleet, {}) == compared(many, fleet, always=True)


def test_a_search_with_a_filter_goes_by_the_index(fleet, many):
    many.index(memory_mb=64, workers=0)
    scans = "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = %s"

    def used(name):
        ask(fleet, "SELECT pg_stat_force_next_flush()")
        return ask(fleet, scans, name)[0][0]

    of_vectors, of_metadata = f"{many.info.vectors}_hnsw", f"{many.info.chunks}_filter"
    before = used(of_vectors)
    expected = nearest(fleet, {"rare": 7})
    assert expected == [hit.id for hit in many.search([1.0] * 16, k=5, where={"rare": 7})]
    assert (before, True) == (used(of_vectors), used(of_metadata) > 0)


def test_what_is_not_live_is_not_compared(fleet, many):
    many.index(memory_mb=64, workers=0)
    ask(fleet, f"UPDATE embedfleet.{many.info.documents} SET live_version = NULL WHERE id < 6000")
    found = compared(many, fleet, {"rare": 7}, always=False)
    assert nearest(fleet, {"rare": 7}) == found
    assert 5 == len(found)
    assert nearest(fleet, {"rare": 7}) == compared(many, fleet, {"rare": 7}, always=True)


@pytest.mark.parametrize("words", [["--no-filter-index"], []])
def test_a_new_collection_has_it_unless_it_is_not_wanted(fleet, command, words):
    command("collection", "create", "notes", "--model", "fake/16", *words)
    notes = fleet.collection("notes")
    assert (f"{notes.info.chunks}_filter" if words else None) == notes.index_filters()


def test_a_collection_that_is_there_keeps_what_it_has(fleet, docs):
    assert docs.info == fleet.collection("docs", "fake/16").info
    assert docs.index_filters() is not None


def test_a_search_with_a_filter_is_quick_as_documents_come(fleet):
    notes = fleet.collection("notes", model="fake/16")
    vectors = np.random.default_rng(1).normal(size=(ROWS, 16)).astype(np.float32)
    fill(fleet, notes, vectors, [{"rare": n % 1_000} for n in range(ROWS)])
    assert compared(notes, fleet, {"rare": 7}) is not None


def test_it_is_not_built_where_writers_would_wait_for_it(fleet, many):
    build = "SELECT embedfleet.create_filter_index(%s)"
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="has rows"):
        ask(fleet, build, many.info.id)


def test_it_is_built_with_the_other_index_unless_it_is_not_wanted(fleet, docs):
    docs.index(filters=False)
    assert docs.index_filters() == f"{docs.info.chunks}_filter"
    assert docs.index_filters() is None
    assert docs.index_filters(wanted=False) is None
    assert docs.index() is None
    assert docs.index_filters() is None


def test_one_that_was_left_half_built_is_built_again(fleet, docs):
    name = docs.index_filters()
    ask(
        fleet,
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass",
        f"embedfleet.{name}",
    )
    assert docs.index_filters() == name
    assert docs.index_filters() is None


def test_one_of_a_person_serves_as_well(fleet, many):
    ask(fleet, f"CREATE INDEX my_own ON embedfleet.{many.info.chunks} USING gin (metadata)")
    assert many.index_filters() is None
    assert nearest(fleet, {"rare": 7}) == compared(many, fleet, {"rare": 7})
    ask(fleet, "DROP INDEX embedfleet.my_own")
    # It does not find all of them.
    ask(
        fleet,
        f"CREATE INDEX my_own ON embedfleet.{many.info.chunks} USING gin (metadata)"
        """ WHERE metadata @> '{"half": 1}'""",
    )
    assert compared(many, fleet, {"rare": 7}) is None


def test_doctor_names_the_collections_that_miss_it(fleet, many, command, monkeypatch):
    monkeypatch.setattr(filter_index, "MANY_CHUNKS", 10)
    plain = fleet.collection("plain", model="fake/16", filter_index=False)
    vectors = np.random.default_rng(1).normal(size=(100, 16)).astype(np.float32)
    fill(fleet, plain, vectors * 2, [{} for _ in range(100)])
    ask(fleet, "ANALYZE")
    said = [each for each in command("doctor", "--json").json if each["subject"] == "filters"]
    assert ["each search with a filter reads 12,000 chunks of docs"] == [
        each["found"] for each in said
    ]
    assert ["embedfleet index docs"] == [each["advice"] for each in said]
    many.index_filters()
    assert "filters" not in {each["subject"] for each in command("doctor", "--json").json}


def test_from_the_command_line(docs, command):
    docs.enqueue([ef.Document("a", "a text", {"lang": "en"})])
    both = [f"built {docs.info.vectors}_hnsw", f"built {docs.info.chunks}_filter"]
    assert both == command("index", "docs").out.splitlines()
    assert "docs is already indexed\n" == command("index", "docs", "--no-filters").out
    again = command("index", "docs", "--json").json
    assert {
        "collection": "docs",
        "built": None,
        "built_for_filters": f"{docs.info.chunks}_filter",
        "built_for_words": None,
        "built_for_fields": [],
    } == again
