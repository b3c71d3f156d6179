"""What `doctor` says of indexes that have grown or are broken, and of rows nobody cleared."""

import numpy as np
import pytest

from embedfleet.cli import index_diagnosis
from embedfleet_schema.store import index_memory
from embedfleet_schema.store.vector_index import IndexKind, in_use
from plugins.filled_collections import fill
from plugins.fleets import ask


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(index_diagnosis, "LEAST_BYTES", 1)
    monkeypatch.setattr(index_diagnosis, "LEAST_DEAD", 10)


@pytest.fixture
def docs(fleet):
    docs = fleet.collection("docs", model="fake/64")
    vectors = np.random.default_rng(3).normal(size=(2_000, 64)).astype(np.float32)
    fill(fleet, docs, vectors, [{}] * len(vectors))
    return docs


def said(command):
    return [
        (each["found"], each["advice"])
        for each in command("doctor", "--json").json
        if each["subject"] == "index"
    ]


@pytest.mark.parametrize(
    ("method", "type_"),
    [("hnsw", "vector"), ("hnsw", "halfvec"), ("hnsw", "bit"), ("ivfflat", "vector")],
)
def test_a_new_index_is_about_as_large_as_is_expected(fleet, docs, command, method, type_):
    docs.index(method=method, type=type_)
    index = in_use(fleet.db, docs.info)
    expected = index_memory.fresh_bytes(docs.info.space, 2_000, IndexKind(method, type_))
    assert 0.8 * expected <= index.bytes <= 1.25 * expected
    assert [] == said(command)


def test_what_updates_left_is_told_and_rebuilt(fleet, docs, command):
    docs.index()
    # As documents that change twice: their texts come, and those of before go. An index keeps what
    # has the same direction once.
    other = f"embedding OPERATOR({fleet.db.vector_schema}.*) embedding"
    for _ in range(2):
        ask(
            fleet,
            "WITH gone AS (DELETE FROM embedfleet._vectors_1_1 RETURNING text_id, embedding)"
            f" INSERT INTO embedfleet._vectors_1_1 SELECT text_id + 100000, {other} FROM gone",
        )
    ask(fleet, "SELECT pg_stat_force_next_flush()")
    ask(fleet, f"ANALYZE embedfleet.{docs.info.vectors}")
    told = said(command)
    assert any("are dead rows" in found for found, _ in told)
    assert f"VACUUM embedfleet.{docs.info.vectors}" in [advice for _, advice in told]
    (advice,) = [advice for found, advice in told if "a new one about" in found]
    assert advice.endswith("embedfleet index docs --rebuild")
    with fleet.db.direct() as conn:
        conn.execute(f"VACUUM ANALYZE embedfleet.{docs.info.vectors}")
    assert 0 == command("index", "docs", "--rebuild").code
    assert [] == said(command)


def test_an_index_that_nobody_can_use_is_told_until_it_is_built(fleet, docs, command):
    name = docs.index()
    broken = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass"
    ask(fleet, broken, f"embedfleet.{name}")
    ((found, advice),) = said(command)
    assert f"{name} of docs is invalid" in found
    assert "embedfleet index docs" in advice
    assert 0 == command("index", "docs").code
    assert [] == said(command)


def test_rebuilding_what_is_not_there_says_so(docs, command):
    assert "docs has no index on vectors" in command("index", "docs", "--rebuild").out
    assert "docs has no index on vectors" in command("index", "docs", "--drop").out
