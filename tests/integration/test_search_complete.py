"""With an index, a search gives as many hits as there are, and nearly always the nearest ones."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg import sql

from embedfleet.collection import Collection
from embedfleet.fleet import Fleet
from plugins.filled_collections import fill
from plugins.fleets import ask

DIMENSIONS = 32
QUESTIONS = 5
RECALL = 0.95
OPERATORS = {"cosine": "<=>", "l2": "<->", "inner_product": "<#>"}
# Of the rows: half, 5, 0.5 and 0.05 in a hundred, and a fifth that lies far from every question.
FILTERS: list[dict[str, Any] | None] = [
    None,
    {"half": 0},
    {"twentieth": 0},
    {"rare": 0},
    {"rarest": 0},
    {"side": "far"},
    {"half": 1, "side": "far"},
    {"side": "near"},
    {"side": "nowhere"},
]


def filled(fleet: Fleet, count: int, **options: str) -> Collection:
    """Two clouds: four fifths of the rows around the questions, the others on the far side."""
    docs = fleet.collection("docs", model=f"fake/{DIMENSIONS}", **options)
    random = np.random.default_rng(7)
    far = random.permutation(count) < count // 5
    vectors = random.normal(size=(count, DIMENSIONS)).astype(np.float32)
    vectors /= 2 * np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[:, 0] += np.where(far, -0.9, 0.9)
    fill(
        fleet,
        docs,
        vectors,
        [
            {
                "half": number % 2,
                "twentieth": number % 20,
                "rare": number % 200,
                "rarest": number % 2_000,
                "side": "far" if is_far else "near",
            }
            for number, is_far in enumerate(far.tolist())
        ],
    )
    docs.index()
    return docs


def questions() -> list[np.ndarray]:
    random = np.random.default_rng(8)
    vectors = random.normal(size=(QUESTIONS, DIMENSIONS)).astype(np.float32) / 10
    vectors[:, 0] += 0.9
    return list(vectors)


def little_memory(fleet: Fleet) -> None:
    """What ends a scan of 60,000 rows with 4 MB ends one of 4,000 with this."""
    with psycopg.connect(fleet.settings.direct_database, autocommit=True) as conn:
        name = sql.Identifier(conn.info.dbname)
        conn.execute(sql.SQL("ALTER DATABASE {} SET work_mem = '256kB'").format(name))
    fleet.db.close()


def exact(
    conn: psycopg.Connection, docs: Collection, question, where: Mapping[str, Any] | None, k: int
) -> list[str]:
    """The keys of the nearest rows, nearest first, from a look at every row."""
    operator = OPERATORS[docs.info.space.metric]
    statement = (
        f"SELECT document FROM embedfleet.{docs.name} WHERE metadata @> %s::jsonb"
        f" ORDER BY (embedding OPERATOR(public.{operator})"
        f" %s::public.{docs.info.space.storage}) + 0 LIMIT %s"
    )
    vector = str(question.tolist())
    rows = conn.execute(statement, (json.dumps(where or {}), vector, k)).fetchall()
    return [key for (key,) in rows]


def check(fleet: Fleet, docs: Collection, counts: list[int]) -> None:
    for where in FILTERS:
        # As people are connected: no path of ours leads to pgvector.
        with psycopg.connect(fleet.settings.direct_database) as conn:
            # The nearest of the nearest are those of a smaller count: every row is looked at once.
            rows = [exact(conn, docs, question, where, max(counts)) for question in questions()]
        for k in counts:
            found = expected = agreed = 0
            for question, sorted_rows in zip(questions(), rows, strict=True):
                nearest = set(sorted_rows[:k])
                answer = docs.search(question, k=k, where=where)
                hits, scores = [hit.document for hit in answer], [hit.score for hit in answer]
                assert sorted(scores, reverse=True) == scores
                assert len(nearest) == len(hits) == len(set(hits)), (k, where)
                found, expected = found + len(hits), expected + len(nearest)
                agreed += len(nearest.intersection(hits))
            assert agreed >= RECALL * expected, (k, where, agreed, expected)


@pytest.mark.parametrize("storage", ["vector", "halfvec"])
@pytest.mark.parametrize("metric", ["cosine", "l2", "inner_product"])
def test_a_filter_never_costs_hits(fleet: Fleet, metric, storage):
    little_memory(fleet)
    docs = filled(fleet, 4_000, metric=metric, storage=storage)
    check(fleet, docs, [10])


def test_many_hits_and_far_ones_are_found_among_many_rows(fleet: Fleet):
    """More rows than a scan looks at, and more hits than it keeps at once."""
    docs = filled(fleet, 24_000)
    check(fleet, docs, [10, 100, 2_500])


@pytest.mark.parametrize("storage", ["vector", "halfvec"])
def test_of_rows_that_lie_far_the_nearest_are_found(fleet: Fleet, storage):
    """Too many to be compared at once, and a scan finds some that are not the nearest."""
    random = np.random.default_rng(3)
    centers = random.normal(size=(200, DIMENSIONS))
    vectors = centers[random.integers(0, 200, 8_000)] + random.normal(size=(8_000, DIMENSIONS))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    asked = vectors[np.argsort(vectors @ vectors[0])[::-1][1 : QUESTIONS + 1]]
    nearness = vectors @ asked.mean(axis=0)
    docs = fleet.collection("docs", model=f"fake/{DIMENSIONS}", storage=storage)
    far = {f"far_{share}": nearness <= np.quantile(nearness, share / 100) for share in (25, 60)}
    metadata = [{name: bool(each[n]) for name, each in far.items()} for n in range(len(vectors))]
    fill(fleet, docs, vectors, metadata)
    docs.index()
    for name in far:
        with psycopg.connect(fleet.settings.direct_database) as conn:
            nearest = [exact(conn, docs, question, {name: True}, 10) for question in asked]
        found = [docs.search(question, k=10, where={name: True}) for question in asked]
        assert [10] * QUESTIONS == [len(hits) for hits in found]
        agreed = sum(
            len({hit.document for hit in hits}.intersection(keys))
            for hits, keys in zip(found, nearest, strict=True)
        )
        assert agreed >= RECALL * 10 * QUESTIONS, (name, agreed)


def test_rows_that_are_not_live_cost_no_hits(fleet: Fleet):
    """Below the view are vectors of versions that readers do not see."""
    little_memory(fleet)
    docs = filled(fleet, 4_000)
    ask(
        fleet,
        "UPDATE embedfleet._documents_1 SET live_version = NULL WHERE id IN ("
        " SELECT document_id FROM embedfleet._chunks_1 WHERE metadata @> %s::jsonb)",
        json.dumps({"side": "near"}),
    )
    check(fleet, docs, [10, 100])


def test_more_candidates_find_more_neighbours(fleet: Fleet):
    """Of vectors that lie anywhere, which are the hardest to find."""
    random = np.random.default_rng(5)
    vectors = random.normal(size=(4_000, 96)).astype(np.float32)
    docs = fleet.collection("docs", model="fake/96")
    fill(fleet, docs, vectors, [{} for _ in vectors])
    docs.index()
    asked = random.normal(size=(20, 96)).astype(np.float32)
    call = "SELECT document FROM embedfleet.search('docs', %s)"
    recalls = []
    with psycopg.connect(fleet.settings.direct_database) as conn:
        nearest = [set(exact(conn, docs, question, None, 10)) for question in asked]
        for ef_search in (40, 1_000):
            conn.execute(f"SET hnsw.ef_search = {ef_search}")
            found = [
                {key for (key,) in conn.execute(call, (str(each.tolist()),))} for each in asked
            ]
            pairs = zip(nearest, found, strict=True)
            recalls.append(sum(len(one & other) for one, other in pairs) / 200)
    assert recalls[0] < recalls[1]
    assert recalls[1] >= 0.99


def test_the_printed_statements_give_what_a_search_gives(fleet: Fleet):
    little_memory(fleet)
    docs = filled(fleet, 4_000)
    question = questions()[0]
    for where in FILTERS:
        for k in (1, 10, 100, 600):
            script = docs.search_script(question, k=k, where=where)
            hits = docs.search(question, k=k, where=where)
            assert [hit.id for hit in hits] == [row[0] for row in typed(fleet, script)]


def test_the_printed_statements_find_pgvector_in_whatever_schema_it_is(fleet: Fleet):
    ask(fleet, 'CREATE SCHEMA "Apart, it is"')
    ask(fleet, 'ALTER EXTENSION vector SET SCHEMA "Apart, it is"')
    with Fleet(fleet.settings) as moved:
        docs = filled(moved, 400)
        question = questions()[0]
        script = docs.search_script(question, k=3, where={"side": "far"})
        hits = docs.search(question, k=3, where={"side": "far"})
    assert [hit.id for hit in hits] == [row[0] for row in typed(fleet, script)]


def typed(fleet: Fleet, script: str) -> list[tuple[Any, ...]]:
    """The rows that psql would show: a session of its own, all statements as they are."""
    with psycopg.connect(fleet.settings.direct_database, autocommit=True) as conn:
        cursor = conn.execute(script.encode())
        rows: list[tuple[Any, ...]] = []
        while True:
            rows += cursor.fetchall() if cursor.description else []
            if not cursor.nextset():
                return rows


def test_the_command_prints_statements_that_run_as_they_are(fleet: Fleet, command):
    docs = filled(fleet, 4_000)
    arguments = ("search", "docs", "where is it?", "-k", 7, "--where", "side=far")
    printed = command(*arguments, "--sql")
    assert (0, "") == (printed.code, printed.err)
    hits = docs.search("where is it?", k=7, where={"side": "far"})
    found = [hit["document"] for hit in command(*arguments, "--json").json]
    assert [hit.document for hit in hits] == found == [row[1] for row in typed(fleet, printed.out)]
    assert printed.out.strip() == command(*arguments, "--sql", "--json").json["sql"]
