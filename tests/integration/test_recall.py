"""Recall: what a search by the index finds of what an exact one finds, and what to set."""

import numpy as np
import pytest

from embedfleet import recall as measuring
from embedfleet_schema.errors import UsageError
from embedfleet_schema.store import query_cache
from embedfleet_schema.store.vector_index import SearchSettings
from plugins.filled_collections import fill

DIMENSIONS = 96


@pytest.fixture
def docs(fleet):
    """Vectors that lie anywhere, which are the hardest to find."""
    docs = fleet.collection("docs", model=f"fake/{DIMENSIONS}")
    vectors = np.random.default_rng(5).normal(size=(4_000, DIMENSIONS)).astype(np.float32)
    fill(fleet, docs, vectors, [{}] * len(vectors))
    return docs


def test_the_least_setting_that_reaches_the_target_is_found_and_stored(docs):
    docs.index(type="bit")
    found = docs.recall(queries=30, target=0.9)
    assert ("ef_search", "chunks", 30, "bit") == (
        found.setting,
        found.source,
        found.queries,
        found.index.type,
    )
    assert found.recall < 0.9 <= found.steps[-1].recall
    assert found.advised == found.steps[-1].value > 400
    assert SearchSettings() == docs.index_info().settings, "nothing is stored without being told to"
    assert found.exact.p50_ms > 0 < found.latency.p95_ms
    assert found.advised == docs.recall(queries=30, target=0.9, apply=True).advised
    assert found.advised == docs.index_info().settings.ef_search
    better = docs.recall(queries=30, target=0.9)
    assert (None, found.advised) == (better.advised, better.steps[0].value)
    assert better.recall == found.steps[-1].recall


def test_lists_are_what_an_ivfflat_index_is_told(docs):
    docs.index(method="ivfflat")
    docs.set_index(probes=1)
    found = docs.recall(queries=20, target=0.99, apply=True)
    assert (1, "probes") == (found.steps[0].value, found.setting)
    assert found.advised == docs.index_info().settings.probes > 1
    assert docs.recall(queries=20).recall >= 0.99


def test_what_people_asked_is_asked_where_it_is_known(fleet, docs):
    docs.index()
    asked = np.random.default_rng(6).normal(size=(25, DIMENSIONS)).astype(np.float32)
    for number, vector in enumerate(asked):
        query_cache.remember(fleet.db, docs.info.space_id, f"q{number}", vector)
    query_cache.remember(fleet.db, docs.info.space_id, "too short", asked[0][:4])
    found = docs.recall(queries=50)
    assert ("queries", 25) == (found.source, found.queries)


def test_a_chunk_is_left_out_of_its_own_hits_and_equals_count_alike(fleet):
    """Twenty times the same vector: any ten of the others are right."""
    docs = fleet.collection("docs", model="fake/16")
    fill(fleet, docs, np.ones((20, 16), dtype=np.float32), [{}] * 20)
    docs.index()
    found = docs.recall(queries=40)
    assert (1.0, None) == (found.recall, found.advised)
    assert found.queries <= 20


def test_without_an_index_or_rows_there_is_nothing_to_measure(fleet, docs):
    with pytest.raises(UsageError, match="has no index"):
        docs.recall()
    empty = fleet.collection("empty", model="fake/16")
    empty.index()
    with pytest.raises(UsageError, match="holds nothing"):
        empty.recall()
    for wrong in ({"k": 0}, {"queries": 0}, {"target": 1.5}, {"target": "high"}, {"apply": 1}):
        with pytest.raises(UsageError):
            docs.recall(**wrong)


def test_the_command_says_what_was_found_and_what_to_set(docs, command):
    docs.index(type="bit")
    told = command("recall", "docs", "--queries", 20, "--target", 0.9)
    assert 0 == told.code
    assert "hnsw on bit" in told.out
    assert "recall@10" in told.out
    assert "--target 0.9 --apply" in told.err
    applied = command("recall", "docs", "--queries", 20, "--target", 0.9, "--apply", "--json").json
    assert applied["applied"]
    assert applied["advised"] == docs.index_info().settings.ef_search
    assert (
        "The present setting reaches 0.9"
        in command("recall", "docs", "--queries", 20, "--target", 0.9).err
    )


def test_a_target_that_no_setting_reaches_is_said(docs, command, monkeypatch):
    docs.index(type="bit")
    monkeypatch.setattr(measuring, "MOST_EF_SEARCH", 400)
    told = command("recall", "docs", "--queries", 20, "--target", 1)
    assert "None reaches 1.0" in told.err
    assert docs.recall(queries=20, target=1.0).advised is None
