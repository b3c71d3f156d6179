"""Indexes of every kind: how one is chosen, built, recognised, replaced, rebuilt and dropped."""

import os
import signal
import subprocess
import sys
import threading
from uuid import uuid4

import numpy as np
import psycopg
import pytest
from psycopg import sql

from embedfleet.indexing import IndexInfo
from embedfleet_schema.database import INDEX_LOCK_SPACE
from embedfleet_schema.database_errors import Blocked, DatabaseError
from embedfleet_schema.errors import UsageError
from embedfleet_schema.store import index_builds, index_memory
from embedfleet_schema.store.vector_index import IndexKind, SearchSettings, chosen, lists_for
from embedfleet_schema.types import Space
from plugins.filled_collections import fill
from plugins.fleets import ask, documents, drain
from plugins.worker_processes import eventually

KINDS = [
    ("hnsw", "vector"),
    ("hnsw", "halfvec"),
    ("hnsw", "bit"),
    ("ivfflat", "vector"),
    ("ivfflat", "halfvec"),
]
BUILDS = "SELECT pid FROM pg_stat_progress_create_index WHERE datname = current_database()"


def space(dimensions, **more):
    return Space("fake", str(dimensions), dimensions, 100, **more)


def filled(fleet, dimensions=16, count=300, **options):
    docs = fleet.collection("docs", model=f"fake/{dimensions}", **options)
    rng = np.random.default_rng(dimensions)
    vectors = rng.normal(size=(count, dimensions)).astype(np.float32)
    fill(fleet, docs, vectors, [{"half": n % 2} for n in range(count)])
    return docs


def indexes(fleet, docs):
    """Name and validity of all indexes on the vectors but that of the key."""
    return ask(
        fleet,
        "SELECT x.relname, i.indisvalid FROM pg_index AS i"
        " JOIN pg_class AS x ON x.oid = i.indexrelid"
        " WHERE i.indrelid = %s::regclass AND NOT i.indisprimary ORDER BY x.relname",
        f"embedfleet.{docs.info.vectors}",
    )


def used(fleet, docs, question):
    """The indexes on vectors that a search scans; of a small table it may scan none by itself."""
    with fleet.db.connect() as conn:
        conn.execute("SET LOCAL enable_seqscan = off")
        conn.execute("SET LOCAL enable_sort = off")
        call = "SELECT count(*) FROM embedfleet.search(%s, %s, 5)"
        before = _scans(conn, docs)
        conn.execute(call, (docs.name, str(question.tolist())))
    with fleet.db.connect() as conn:
        after = _scans(conn, docs)
    return [name for name in after if after[name] > before.get(name, 0)]


def _scans(conn, docs):
    conn.execute("SELECT pg_stat_clear_snapshot(), pg_stat_force_next_flush()")
    statement = (
        "SELECT indexrelname, idx_scan FROM pg_stat_user_indexes"
        " WHERE relid = %s::regclass AND indexrelname NOT LIKE '%%pkey'"
    )
    return dict(conn.execute(statement, (f"embedfleet.{docs.info.vectors}",)).fetchall())


@pytest.mark.parametrize(
    ("of", "method", "type_", "expected"),
    [
        (space(2_000), None, None, ("hnsw", "vector")),
        (space(2_001), None, None, ("hnsw", "halfvec")),
        (space(4_000, storage="halfvec"), None, None, ("hnsw", "halfvec")),
        (space(4_001), None, None, ("hnsw", "bit")),
        (space(16_000, storage="halfvec"), None, None, ("hnsw", "bit")),
        (space(3_000, normalized=False), None, None, ("hnsw", "halfvec")),
        (space(384), "ivfflat", None, ("ivfflat", "vector")),
        (space(3_072), "ivfflat", None, ("ivfflat", "halfvec")),
        (space(384, metric="l2"), None, "bit", ("hnsw", "bit")),
    ],
)
def test_the_kind_is_chosen_by_the_width_of_the_vectors(of, method, type_, expected):
    assert IndexKind(*expected) == chosen(of, method, type_)


@pytest.mark.parametrize(
    ("of", "method", "type_", "said"),
    [
        (
            space(3_072),
            None,
            "vector",
            "up to 2,000 dimensions there, not 3,072. Choose --type half",
        ),
        (space(384, storage="halfvec"), None, "vector", "stored as halfvec. Choose --type halfvec"),
        (space(5_000), "ivfflat", None, "Try --method hnsw"),
        (space(384), "ivfflat", "bit", "signs are indexed with hnsw only"),
        (space(384, metric="l2", normalized=False), None, "bit", "any length"),
        (space(3_072, metric="l2", normalized=False), None, None, "searches are exact"),
    ],
)
def test_what_cannot_be_indexed_is_refused_with_what_can(of, method, type_, said):
    with pytest.raises(UsageError, match=said):
        chosen(of, method, type_)


def test_lists_grow_with_the_rows_and_slower_beyond_a_million():
    assert [1, 1, 200, 1_000, 2_000] == [lists_for(n) for n in (0, 10, 200_000, 10**6, 4 * 10**6)]


@pytest.mark.parametrize(("method", "type_"), KINDS)
def test_an_index_of_any_kind_replaces_the_former_one_and_is_used(fleet, method, type_):
    docs = filled(fleet)
    first = docs.index()
    built = docs.index(method=method, type=type_)
    same = (method, type_) == ("hnsw", "vector")
    assert (built is None) == same
    name = first if same else built
    assert [(name, True)] == indexes(fleet, docs)
    found = docs.index_info().index
    assert (method, type_) == (found.method, found.type)
    assert [name] == used(fleet, docs, docs.embed_query("x"))
    assert docs.index() is None, "any index will do"
    assert docs.index(method=method, type=type_) is None
    assert docs.counts().indexed


@pytest.mark.parametrize("metric", ["cosine", "l2", "inner_product"])
@pytest.mark.parametrize(("method", "type_"), KINDS)
def test_all_hits_come_back_through_an_index_of_any_kind(fleet, method, type_, metric):
    docs = filled(fleet, 64, 2_000, metric=metric)
    docs.index(method=method, type=type_)
    for k, where, expected in ((10, None, 10), (1_500, None, 1_500), (1_500, {"half": 1}, 1_000)):
        hits = docs.search(docs.embed_query("question"), k=k, where=where)
        assert expected == len({hit.id for hit in hits})
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_vectors_that_float16_cannot_hold_are_indexed_by_their_direction(fleet):
    """Of a model that does not normalize: what is too large would be refused, the small lost."""
    docs = fleet.collection("docs", model="fake/16")
    ask(fleet, "UPDATE embedfleet.space SET normalized = false")
    docs = type(docs)(fleet, fleet.collections()[0].info)
    assert not docs.info.space.normalized
    ask(fleet, "UPDATE embedfleet.space SET fingerprint = %s", docs.info.space.fingerprint)
    scales = np.array([1e-9, 1.0, 1e6], dtype=np.float32)
    vectors = np.eye(3, 16, dtype=np.float32) * scales[:, None] + 1e-12
    fill(fleet, docs, vectors, [{}] * 3)
    docs.index(type="halfvec")
    assert ["d2", "d0", "d1"] == [
        docs.search(np.eye(3, 16)[n] * 1e6, k=1)[0].document for n in (2, 0, 1)
    ]
    with fleet.db.connect() as conn:
        conn.execute("SET LOCAL enable_seqscan = off")
        found = conn.execute(
            "SELECT document FROM embedfleet.search('docs', %s, 3)", (str(vectors[2].tolist()),)
        ).fetchall()
    assert {"d0", "d1", "d2"} == {key for (key,) in found}


@pytest.mark.parametrize("dimensions", [2_500, 5_000])
def test_wide_vectors_are_indexed_without_being_asked_how(fleet, dimensions):
    docs = filled(fleet, dimensions, 40)
    docs.index()
    assert {2_500: "halfvec", 5_000: "bit"}[dimensions] == docs.index_info().index.type
    assert 40 == len(docs.search(docs.embed_query("x"), k=50))


def test_an_index_that_a_person_built_is_used_and_stays(fleet):
    docs = filled(fleet)
    ask(
        fleet,
        f"CREATE INDEX mine ON embedfleet.{docs.info.vectors} USING hnsw"
        " ((public.binary_quantize(embedding)::bit(16)) public.bit_hamming_ops)",
    )
    assert ("hnsw", "bit") == (docs.index_info().index.method, docs.index_info().index.type)
    assert docs.index() is None
    docs.index(type="vector")
    assert [(f"{docs.info.vectors}_hnsw", True), ("mine", True)] == indexes(fleet, docs)
    assert "vector" == docs.index_info().index.type
    assert [f"{docs.info.vectors}_hnsw"] == docs.drop_index()
    assert [("mine", True)] == indexes(fleet, docs)


@pytest.mark.parametrize(
    "of",
    [
        "hnsw (embedding public.vector_l2_ops)",
        "hnsw (embedding public.vector_cosine_ops) WHERE text_id > 5",
        "hnsw ((public.subvector(embedding, 1, 8)::public.vector(8)) public.vector_cosine_ops)",
    ],
)
def test_an_index_that_searches_cannot_use_is_none(fleet, of):
    docs = filled(fleet)
    ask(fleet, f"CREATE INDEX mine ON embedfleet.{docs.info.vectors} USING {of}")
    assert docs.index_info().index is None
    assert 300 == len(docs.search(docs.embed_query("x"), k=300))
    assert docs.index() is not None


def test_an_index_is_rebuilt_in_place_and_left_overs_go(fleet):
    docs = filled(fleet)
    assert docs.rebuild_index() is None
    name = docs.index()
    ask(
        fleet,
        f"CREATE INDEX {name}_ccnew ON embedfleet.{docs.info.vectors} USING hnsw"
        " (embedding public.vector_cosine_ops)",
    )
    ask(
        fleet,
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass",
        f"embedfleet.{name}_ccnew",
    )
    before = ask(fleet, "SELECT %s::regclass::oid", f"embedfleet.{name}")
    assert name == docs.rebuild_index()
    assert [(name, True)] == indexes(fleet, docs)
    assert before != ask(fleet, "SELECT %s::regclass::oid", f"embedfleet.{name}")


def test_an_index_that_a_crash_left_invalid_serves_nobody_and_the_next_build_drops_it(fleet):
    docs = filled(fleet)
    name = docs.index()
    ask(
        fleet,
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass",
        f"embedfleet.{name}",
    )
    assert not docs.counts().indexed
    assert IndexInfo(None, SearchSettings()) == docs.index_info()
    assert 300 == len(docs.search(docs.embed_query("x"), k=400))
    assert name == docs.index()
    assert [(name, True)] == indexes(fleet, docs)


def held_up(fleet, docs):
    """A transaction that writes into the vectors: a build waits for it before it begins."""
    conn = fleet.db.begun(fleet.settings.direct_database)
    conn.execute(f"LOCK TABLE embedfleet.{docs.info.vectors} IN ROW EXCLUSIVE MODE")
    return conn


@pytest.mark.parametrize("arguments", [(), ("--rebuild",), ("--type", "bit")])
def test_a_build_that_is_interrupted_leaves_the_former_index_and_nothing_else(fleet, arguments):
    docs = filled(fleet)
    if arguments:
        docs.index()
    before = indexes(fleet, docs)
    writer = held_up(fleet, docs)
    variables = {"EMBEDFLEET_DATABASE_URL": fleet.settings.database}
    building = subprocess.Popen(
        [sys.executable, "-m", "embedfleet", "index", "docs", *arguments],
        env={**os.environ, **variables},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    eventually(lambda: ask(fleet, BUILDS))
    building.send_signal(signal.SIGINT)
    # It waits for a moment for whoever writes, to drop what it began.
    eventually(lambda: not ask(fleet, BUILDS))
    writer.rollback()
    writer.close()
    _, said = building.communicate(timeout=60)
    assert (130, False) == (building.returncode, b"Traceback" in said)
    assert before == indexes(fleet, docs)
    assert 300 == len(docs.search(docs.embed_query("x"), k=400))
    assert docs.index(type="bit") is not None
    assert 1 == len(indexes(fleet, docs))


def test_nothing_that_is_written_while_indexes_change_places_is_lost(fleet, worker):
    """Workers commit and documents go while one kind of index replaces another, again and again."""
    docs = fleet.collection("docs", model="fake/16")
    runtime = worker()
    docs.enqueue(documents(40))
    drain(runtime)
    stop, errors = threading.Event(), []

    def change():
        try:
            while not stop.is_set():
                for method, type_ in KINDS:
                    docs.index(method=method, type=type_)
                docs.rebuild_index()
                docs.drop_index()
        except Exception as error:  # noqa: BLE001 - told to the test
            errors.append(error)

    changer = threading.Thread(target=change)
    changer.start()
    try:
        for turn in range(6):
            docs.enqueue(documents(40 + 10 * turn, word=f"turn {turn}"))
            drain(runtime)
            docs.delete([f"d{turn}"])
            expected = 40 + 10 * turn - 1
            docs.enqueue(documents(turn + 1, word="again"))
            drain(runtime)
            hits = docs.search(docs.embed_query("text"), k=1_000)
            assert expected + 1 == len({hit.document for hit in hits})
    finally:
        stop.set()
        changer.join()
    assert [] == errors
    docs.index(type="bit")
    assert 90 == len(docs.search(docs.embed_query("text"), k=1_000))
    found = docs.audit()
    assert (0, 0) == (found.missing, found.extra)


def test_one_process_at_a_time_changes_the_indexes_of_a_collection(fleet, monkeypatch):
    docs = filled(fleet)
    other = fleet.collection("other", model="fake/16")
    monkeypatch.setattr(fleet.db, "lock_wait_s", 0.2)
    monkeypatch.setattr(index_builds, "POLL_S", 0.05)
    with psycopg.connect(fleet.settings.direct_database, autocommit=True) as conn:
        conn.execute("SELECT pg_advisory_lock(%s, %s)", (INDEX_LOCK_SPACE, docs.info.id))
        for call in (docs.index, docs.drop_index, lambda: docs.index_filters(wanted=False)):
            with pytest.raises(Blocked, match=f"pid {conn.info.backend_pid}"):
                call()
        assert "busy" == docs.follow_load()
        assert other.index() is not None
    assert docs.index() is not None


def test_settings_of_a_collection_are_kept_and_checked(fleet):
    docs = filled(fleet)
    docs.set_index(ef_search=200)
    docs.set_index(policy="auto", probes=7)
    assert SearchSettings(200, 7, "auto") == docs.index_info().settings
    for wrong in ({"ef_search": 0}, {"ef_search": 1_001}, {"probes": 40_000}, {"policy": "maybe"}):
        with pytest.raises(UsageError):
            docs.set_index(**wrong)
    docs.drop()
    assert [] == ask(fleet, "SELECT * FROM embedfleet.collection_index")


def test_k_means_get_the_memory_that_they_need(fleet):
    docs = filled(fleet, 64, 3_000)
    kind = IndexKind("ivfflat", "vector")
    needed = index_memory.build_memory(docs.info.space, 3_000, kind).needed_mb
    docs.index(method="ivfflat", memory_mb=needed)
    docs.drop_index()
    with pytest.raises(DatabaseError, match="memory required"):
        docs.index(method="ivfflat", memory_mb=1)
    assert [] == indexes(fleet, docs)


def test_a_search_changes_nothing_on_a_server_that_only_reads(fleet):
    docs = filled(fleet, 32, 2_000)
    for method, type_ in KINDS:
        docs.index(method=method, type=type_)
        with psycopg.connect(fleet.settings.direct_database) as conn:
            conn.read_only = True
            for where in (None, '{"half": 1}', '{"half": 3}'):
                asked = "SELECT count(*) FROM embedfleet.search('docs', %s, 10, %s)"
                found = conn.execute(asked, (str(docs.embed_query("x").tolist()), where))
                assert (0 if where and "3" in where else 10,) == found.fetchone()


def test_reading_only_searches_and_recall_work_with_the_whole_client(fleet, command):
    docs = filled(fleet, 32, 2_000)
    docs.index(type="bit")
    with psycopg.connect(fleet.settings.direct_database, autocommit=True) as conn:
        name = sql.Identifier(conn.info.dbname)
        conn.execute(
            sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(name)
        )
    fleet.db.close()
    assert 5 == len(docs.search("question", k=5))
    assert 5 == len(command("search", "docs", "question", "-k", 5, "--json").json)
    assert docs.recall(queries=5).recall > 0.5


@pytest.fixture
def reader(fleet):
    """A role that may read the view of one collection: policies hold for it."""
    name = f"reader_{uuid4().hex[:12]}"
    ask(fleet, f"CREATE ROLE {name}")
    yield name
    ask(fleet, f"DROP OWNED BY {name}; DROP ROLE {name}")


def test_a_reader_of_one_view_searches_through_an_index_of_any_kind(fleet, reader):
    docs = filled(fleet, 32, 2_000)
    docs.grant(reader, view=True)
    for method, type_ in KINDS:
        docs.index(method=method, type=type_)
        with fleet.db.connect() as conn:
            conn.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(reader)))
            conn.execute("SET LOCAL enable_seqscan = off")
            own = "SELECT key, scan_operator, scan_query FROM embedfleet.space_of('docs')"
            key, operator, query = conn.execute(own).fetchone()
            vector = str(docs.embed_query("x").tolist())
            asked_for = query.replace("%s", f"'{vector}'")
            order = f"{key} {operator} {asked_for}"
            explained = f"EXPLAIN SELECT id FROM embedfleet.docs ORDER BY {order} LIMIT 10"
            plan = "\n".join(line for (line,) in conn.execute(explained))
            assert f"Index Scan using {docs.index_info().index.name}" in plan
            for where in (None, '{"half": 1}'):
                asked = "SELECT count(*) FROM embedfleet.search('docs', %s, 10, %s)"
                assert (10,) == conn.execute(asked, (vector, where)).fetchone()
            with pytest.raises(psycopg.errors.InsufficientPrivilege), conn.transaction():
                conn.execute("SELECT FROM embedfleet.collection_index")
