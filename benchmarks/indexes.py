"""Indexes of each kind: how large they are, what they find, how long they take, and how they age.

The vectors are those of all-MiniLM-L6-v2 for the paragraphs of docstrings, of the standard library
and of `--folders`: texts that nobody chose for this. `--vectors` says how many. One in a hundred is
a question, and not stored. With `--dimensions` they are drawn at random around 200 centers instead.
`--cache FILE` keeps vectors for the next run. `--kinds` chooses some: "hnsw vector".

Printed are, for each kind, its size, recall@10 and the time of a search; the same with filters that
keep 50% to 0.05%, and only what is farthest from the questions; what inserting into a live index
costs beside building it afterwards; and what is left of an index after half of the rows were
replaced and a fifth deleted, before and after it is rebuilt. Times are those of the server's
processor: a busy machine changes them little.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from psycopg import sql
from psycopg.types.json import Jsonb

import embedfleet as ef
from _index_vectors import Matrix, vectors_of
from _scratch import machine, scratch_fleet
from embedfleet_schema.statements import composed
from embedfleet_schema.store import counters
from embedfleet_schema.vectors import vector_array

KINDS: tuple[tuple[str, str, dict[str, int]], ...] = (
    ("hnsw", "vector", {}),
    ("hnsw", "vector", {"ef_search": 400}),
    ("hnsw", "halfvec", {}),
    ("hnsw", "halfvec", {"ef_search": 400}),
    ("hnsw", "bit", {}),
    ("hnsw", "bit", {"ef_search": 1_000}),
    ("ivfflat", "vector", {}),
    ("ivfflat", "halfvec", {}),
)
# A filter of this name keeps one row in so many.
KEEP = (2, 20, 200, 2_000)
AT_ONCE = 500
K = 10
SAME = 1e-6

INSERT = """
WITH given AS (
    SELECT * FROM unnest(%(keys)s::text[], %(metadata)s::jsonb[], %(vectors)s)
        AS u (key, metadata, embedding)
), documents AS (
    INSERT INTO embedfleet.{documents} (key, digest, version, live_version)
    SELECT key, '', 1, 1 FROM given
    RETURNING id, key
), texts AS (
    INSERT INTO embedfleet.{texts} (hash, tokens, content)
    SELECT md5(key)::uuid, 1, key FROM given
    RETURNING id, content
), chunks AS (
    INSERT INTO embedfleet.{chunks} (document_id, version, position, text_id, metadata)
    SELECT d.id, 1, 0, t.id, g.metadata
    FROM given AS g
    JOIN documents AS d USING (key)
    JOIN texts AS t ON t.content = g.key
)
INSERT INTO embedfleet.{vectors} (text_id, embedding)
SELECT t.id, g.embedding FROM given AS g JOIN texts AS t ON t.content = g.key
"""
DELETE = """
WITH gone AS (
    DELETE FROM embedfleet.{documents} WHERE key = ANY (%(keys)s)
), texts AS (
    DELETE FROM embedfleet.{texts} WHERE content = ANY (%(keys)s) RETURNING id
)
DELETE FROM embedfleet.{vectors} WHERE text_id IN (SELECT id FROM texts)
"""


def insert(
    fleet: ef.Fleet, docs: ef.Collection, vectors: Matrix, far: NDArray[np.bool_], first: int = 0
) -> None:
    """Documents with the numbers from `first` on, as a worker writes them."""
    statement = composed(sql.SQL(INSERT), docs.info)
    for start in range(0, len(vectors), AT_ONCE):
        numbers = range(start, min(start + AT_ONCE, len(vectors)))
        metadata = [
            {f"in_{keep}": (first + n) % keep for keep in KEEP} | {"far": bool(far[n])}
            for n in numbers
        ]
        part = vectors[numbers.start : numbers.stop]
        with fleet.db.transaction() as conn:
            values = {
                "keys": [f"d{first + n}" for n in numbers],
                "metadata": [Jsonb(each) for each in metadata],
                "vectors": vector_array(part, docs.info.space.storage, fleet.db.oids),
            }
            conn.execute(statement, values)


def remove(fleet: ef.Fleet, docs: ef.Collection, numbers: Sequence[int]) -> None:
    statement = composed(sql.SQL(DELETE), docs.info)
    for start in range(0, len(numbers), AT_ONCE):
        with fleet.db.transaction() as conn:
            keys = [f"d{n}" for n in numbers[start : start + AT_ONCE]]
            conn.execute(statement, {"keys": keys})


def settle(fleet: ef.Fleet, docs: ef.Collection) -> None:
    """What autovacuum does in time."""
    counters.repair(fleet.db, docs.info)
    with fleet.db.direct() as conn:
        for table in docs.info.tables:
            conn.execute(sql.SQL("VACUUM (ANALYZE) embedfleet.{}").format(sql.Identifier(table)))


def server_s(fleet: ef.Fleet) -> float:
    """Processor time of the server and of all its processes so far, those that ended included."""
    time.sleep(0.5)  # until the server has counted what sessions that just ended took
    with fleet.db.transaction() as conn:
        postmaster = psutil.Process(conn.info.backend_pid).parent()
    assert postmaster is not None
    times = postmaster.cpu_times()
    total = times.user + times.system + times.children_user + times.children_system
    for child in postmaster.children():
        try:
            own = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += own.user + own.system
    return float(total)


def ask(
    fleet: ef.Fleet,
    docs: ef.Collection,
    questions: Matrix,
    stored: Matrix,
    kept: NDArray[np.bool_],
    where: Any = None,
) -> str:
    """Recall, whether a hit is missing, and what a search takes: milliseconds of the server's
    processor, and by the clock.
    """
    right = wanted = 0
    times = []
    least = K
    before = server_s(fleet)
    for question in questions:
        scores = np.sort((stored @ question)[kept])[::-1][:K]
        began = time.perf_counter()
        hits = docs.search(question, k=K, where=where)
        times.append(1e3 * (time.perf_counter() - began))
        right += sum(hit.score >= scores[-1] - SAME for hit in hits)
        wanted += len(scores)
        least = min(least, len(hits) - len(scores) + K)
    complete = "all hits" if least == K else f"{K - least} HITS MISSING"
    each_ms = 1e3 * (server_s(fleet) - before) / len(questions)
    p50, p95 = np.quantile(times, [0.5, 0.95])
    took = f"{each_ms:.1f} ms of processor, by the clock p50 {p50:.1f} ms and p95 {p95:.1f} ms"
    return f"recall@{K} {right / wanted:.3f}, {complete}, {took}"


def kinds(
    fleet: ef.Fleet,
    docs: ef.Collection,
    asked: tuple[Matrix, Matrix],
    stored: Matrix,
    far: NDArray[np.bool_],
    chosen: Sequence[str],
) -> None:
    questions, of_one_topic = asked
    numbers = np.arange(len(stored))
    largest = 0
    for method, type_, setting in KINDS:
        if chosen and f"{method} {type_}" not in chosen:
            continue
        before = server_s(fleet)
        built = docs.index(method=method, type=type_, workers=0)  # type: ignore[arg-type]
        spent = server_s(fleet) - before
        with fleet.db.transaction() as conn:
            conn.execute("DELETE FROM embedfleet.collection_index")
        if setting:
            docs.set_index(**setting)  # type: ignore[arg-type]
        found = docs.index_info().index
        assert found is not None
        largest = largest or found.bytes
        size = f"{found.bytes / 1e6:.1f} MB, {found.bytes / largest:.3f} of the first"
        took = f"; built in {spent:.1f} s of processor" if built else ""
        print(f"{found}, {setting or 'default'}: {size}{took}")
        print(f"  no filter: {ask(fleet, docs, questions, stored, numbers >= 0)}")
        if setting:
            continue
        for keep in KEEP:
            where = {f"in_{keep}": 0}
            said = ask(fleet, docs, questions, stored, numbers % keep == 0, where)
            print(f"  1 in {keep:,}: {said}")
        said = ask(fleet, docs, of_one_topic, stored, far, {"far": True})
        print(f"  far from the questions: {said}")


def load(fleet: ef.Fleet, vectors: Matrix) -> None:
    """With the index there from the start, and built afterwards; the statements are the same."""
    far = np.zeros(len(vectors), dtype=np.bool_)
    spent = {}
    for name in ("live", "after"):
        docs = fleet.collection(name, model=f"fake/{vectors.shape[1]}", filter_index=False)
        before = server_s(fleet)
        if name == "live":
            docs.index(filters=False, workers=0)
        insert(fleet, docs, vectors, far)
        inserted = server_s(fleet) - before
        docs.index(filters=False, workers=0)
        spent[name] = server_s(fleet) - before
        print(f"  {name}: {inserted:.1f} s of processor for the rows, {spent[name]:.1f} s in all")
        docs.drop()
    print(f"  ratio of all: {spent['after'] / spent['live']:.2f}")


def age(fleet: ef.Fleet, vectors: Matrix, questions: Matrix) -> None:
    """Half of the documents get other texts, then a fifth goes."""
    count = 2 * len(vectors) // 3
    docs = fleet.collection("aged", model=f"fake/{vectors.shape[1]}", filter_index=False)
    far = np.zeros(len(vectors), dtype=np.bool_)
    insert(fleet, docs, vectors[:count], far)
    docs.index(filters=False)
    there = np.zeros(len(vectors), dtype=np.bool_)
    there[:count] = True

    def say(when: str) -> None:
        found = docs.index_info().index
        assert found is not None
        said = ask(fleet, docs, questions, vectors, there)
        print(f"  {when}: {found.bytes / 1e6:.1f} MB, {said}")

    settle(fleet, docs)
    say("new")
    for start in range(0, count // 2, 5_000):
        # In parts, because autovacuum comes in between.
        part = slice(start, min(start + 5_000, count // 2))
        later = slice(count + part.start, min(count + part.stop, len(vectors)))
        remove(fleet, docs, range(count)[part])
        insert(fleet, docs, vectors[later], far, later.start)
        there[part], there[later] = False, True
        settle(fleet, docs)
    say("half replaced")
    gone = np.flatnonzero(there)[::5]
    remove(fleet, docs, gone.tolist())
    there[gone] = False
    say("and a fifth deleted")
    settle(fleet, docs)
    say("vacuumed")
    docs.rebuild_index()
    say("rebuilt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vectors", type=int, default=3_000)
    parser.add_argument("--dimensions", type=int, help="random ones instead of real ones")
    parser.add_argument("--questions", type=int, default=100, help="at the most")
    parser.add_argument("--folders", nargs="*", default=[], help="more Python sources to read")
    parser.add_argument("--cache", type=Path, help="a .npy file")
    parser.add_argument("--kinds", nargs="*", default=[], help="of indexes; by default all")
    parser.add_argument("--parts", nargs="*", default=["kinds", "load", "age"])
    given = parser.parse_args()
    print(machine())
    with scratch_fleet() as fleet:
        vectors = vectors_of(fleet, given)
        stored = np.delete(vectors, np.s_[::100], axis=0)
        questions = vectors[::100][: given.questions]
        width = stored.shape[1]
        kind = "random" if given.dimensions else "real"
        print(f"{len(stored):,} {kind} vectors of {width:,} dimensions, {len(questions)} questions")
        if "kinds" in given.parts:
            near = np.argsort(questions @ questions[0])[::-1][:10]
            distance = stored @ questions[near].mean(axis=0)
            far = distance <= np.quantile(distance, 0.05)
            docs = fleet.collection("docs", model=f"fake/{width}")
            insert(fleet, docs, stored, far)
            settle(fleet, docs)
            kinds(fleet, docs, (questions, questions[near]), stored, far, given.kinds)
        if "load" in given.parts:
            print("filling a collection:")
            load(fleet, stored)
        if "age" in given.parts:
            print("an index that ages:")
            age(fleet, stored, questions)


if __name__ == "__main__":
    main()
