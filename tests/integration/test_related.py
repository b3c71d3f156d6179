"""What searches find beside the nearest chunks: documents, neighbours, variety, duplicates."""

import numpy as np
import psycopg
import pytest

import embedfleet as ef
from embedfleet_schema.errors import EmbedfleetError
from plugins.filled_collections import fill
from plugins.fleets import ask, drain, filled_by

DIMENSIONS = 16


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def make(fleet, worker):
    docs = fleet.collection("docs", model=f"fake/{DIMENSIONS}")
    docs.enqueue(
        ef.Document(
            f"d{n}",
            chunks=[f"text {n} part {part}" for part in range(1 + n % 4)],
            metadata={"n": n},
        )
        for n in range(40)
    )
    drain(worker(batch_tokens_cpu=8_192))


copied_database = filled_by(make)


@pytest.fixture
def docs(fleet):
    return fleet.collection("docs")


@pytest.fixture
def vector(docs):
    return str(docs.embed_query("a question").tolist())


@pytest.mark.parametrize("indexed", [False, True])
def test_documents_come_by_their_best_chunk_as_many_as_are_asked_for(fleet, docs, vector, indexed):
    if indexed:
        docs.index(memory_mb=8, workers=0)
    every = docs.search(eval(vector), k=200)  # noqa: S307 - a list of numbers
    best = {}
    for hit in every:
        best.setdefault(hit.document, hit.id)
    for k in (1, 5, 40, 50):
        found = ask(
            fleet,
            "SELECT document, id FROM embedfleet.nearest_documents('docs', %s, %s)",
            vector,
            k,
        )
        assert list(best.items())[:k] == found
    filtered = ask(
        fleet,
        "SELECT document FROM embedfleet.nearest_documents('docs', %s, 9, %s)",
        vector,
        '{"n": {"lt": 4}}',
    )
    assert {"d0", "d1", "d2", "d3"} == {key for (key,) in filtered}


def test_a_document_is_like_those_with_a_chunk_like_one_of_its_own(fleet, docs):
    rows = ask(fleet, "SELECT document, position, embedding::text FROM embedfleet.docs")
    vectors = {(key, n): np.array(eval(text)) for key, n, text in rows}  # noqa: S307
    own = {n: each for (key, n), each in vectors.items() if key == "d3"}
    expected = {}
    for (key, n), each in vectors.items():
        for position, mine in own.items():
            score = float(each @ mine / np.linalg.norm(each) / np.linalg.norm(mine))
            if key != "d3" and score > expected.get(key, (-2,))[0]:
                expected[key] = (score, n, position)
    order = sorted(expected, key=lambda key: -expected[key][0])
    found = docs.similar("d3", k=7)
    assert order[:7] == [hit.document for hit in found]
    for hit in found:
        score, position, own_position = expected[hit.document]
        assert (position, own_position) == (hit.position, hit.own_position)
        assert score == pytest.approx(hit.score, abs=1e-5)
    least = found[3].score
    assert found[:4] == docs.similar("d3", k=7, threshold=least)
    with pytest.raises(EmbedfleetError, match="no live document"):
        docs.similar("nothing")


def test_a_hit_has_neighbours_in_its_document(fleet, docs):
    ((chunk,),) = ask(
        fleet, "SELECT id FROM embedfleet.docs WHERE document = 'd3' AND position = 2"
    )
    around = "SELECT document, position FROM embedfleet.neighbours('docs', %s, %s, %s)"
    assert [("d3", 1), ("d3", 2), ("d3", 3)] == ask(fleet, around, chunk, 1, 1)
    assert [("d3", n) for n in range(3)] == ask(fleet, around, chunk, 5, 0)
    assert [] == ask(fleet, around, -1, 1, 1)


def test_diverse_hits_are_those_of_maximal_marginal_relevance(fleet, docs, vector):
    question = unit(np.array([eval(vector)]))[0]  # noqa: S307
    rows = ask(fleet, "SELECT id, embedding::text FROM embedfleet.docs")
    vectors = {number: unit(np.array([eval(text)]))[0] for number, text in rows}  # noqa: S307
    call = "SELECT id FROM embedfleet.diverse('docs', %s, 8, NULL, %s, 30)"
    near = [hit.id for hit in docs.search(eval(vector), k=30)]  # noqa: S307
    for weight in (0.0, 0.3, 0.7, 1.0):
        chosen = []
        while len(chosen) < 8:
            chosen.append(
                max(
                    (each for each in near if each not in chosen),
                    key=lambda each: (
                        weight * float(vectors[each] @ question)
                        - (1 - weight)
                        * max((float(vectors[each] @ vectors[one]) for one in chosen), default=0.0)
                    ),
                )
            )
        assert chosen == [number for (number,) in ask(fleet, call, vector, weight)]
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="from 0 to 1"):
        ask(fleet, call, vector, 2)


PLANTED, ALONE = 60, 600


@pytest.fixture
def planted(fleet):
    """A collection with pairs that are nearly the same, and one cluster of 30."""
    random = np.random.default_rng(3)
    alone = unit(random.normal(size=(ALONE, 64)))
    near = unit(alone[:PLANTED] + random.normal(scale=0.01, size=(PLANTED, 64)))
    many = unit(alone[-1:] + random.normal(scale=0.01, size=(29, 64)))
    docs = fleet.collection("planted", model="fake/64")
    vectors = np.concatenate([alone, near, many])
    fill(fleet, docs, vectors, [{} for _ in vectors])
    return docs, vectors


@pytest.mark.parametrize("exact", [True, False])
def test_duplicates_are_found_in_clusters_and_none_that_are_not(planted, exact):
    docs, vectors = planted
    docs.index(memory_mb=8, workers=0)
    alike = vectors @ vectors.T
    expected = {
        (one, other) for one, other in zip(*np.where(alike >= 0.95), strict=True) if one < other
    }
    found = docs.duplicates(0.95, exact=exact)
    pairs = {
        tuple(sorted((int(each.document[1:]), int(each.other_document[1:])))) for each in found
    }
    assert expected == pairs
    assert PLANTED + 30 * 29 // 2 == len(found)
    assert PLANTED + 1 == len({each.cluster for each in found})
    assert min(each.score for each in found) >= 0.95
    by_cluster = {}
    for each in found:
        by_cluster.setdefault(each.cluster, set()).update((each.id, each.other_id))
    assert all(cluster == min(chunks) for cluster, chunks in by_cluster.items())
    assert [2] * PLANTED + [30] == sorted(map(len, by_cluster.values()))


def test_chunks_of_one_text_are_duplicates_too(fleet, docs, worker):
    docs.enqueue(ef.Document(f"copy{n}", "the very same") for n in range(3))
    drain(worker())
    found = [each for each in docs.duplicates(0.999) if each.document.startswith("copy")]
    assert 3 == len(found)
    assert 1 == len({each.cluster for each in found})
    assert {1.0} == {round(each.score, 6) for each in found}


def test_many_chunks_without_an_index_are_not_compared_unless_that_is_wanted(fleet):
    docs = fleet.collection("many", model="fake/8")
    vectors = unit(np.random.default_rng(1).normal(size=(5_001, 8)))
    fill(fleet, docs, vectors, [{} for _ in vectors])
    with pytest.raises(EmbedfleetError, match="has no index"):
        docs.duplicates(0.9999999)
    assert [] == docs.duplicates(1.1, exact=True)


def test_python_finds_the_hits_that_differ_as_sql_does(fleet, docs, vector):
    statement = "SELECT id FROM embedfleet.diverse('docs', %s, 5, '{\"n\": {\"lt\": 30}}', 0.3, 20)"
    wanted = [id_ for (id_,) in ask(fleet, statement, vector)]
    found = docs.diverse("a question", k=5, where={"n": {"lt": 30}}, weight=0.3, candidates=20)
    assert wanted == [hit.id for hit in found]
    assert found != docs.search("a question", k=5, where={"n": {"lt": 30}})


def test_the_chunks_of_documents_are_those_that_readers_see(docs, worker):
    docs.enqueue([ef.Document("caf\u00e9", "one"), ef.Document("draft", "not embedded yet")])
    drain(worker())
    docs.enqueue([ef.Document("draft", "changed"), ef.Document("new", "nor this one")])
    found = docs.chunks(["d3", "cafe\u0301", "draft", "new", "missing", "a\0b"])
    assert [
        ("caf\u00e9", 0, "one"),
        *(("d3", part, f"text 3 part {part}") for part in range(4)),
        ("draft", 0, "not embedded yet"),
    ] == [(each.document, each.position, each.content) for each in found]
    assert {"n": 3} == found[1].metadata
