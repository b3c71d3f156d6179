"""Claims that exclude spaces that cool: what waits elsewhere is found however much waits there."""

import queue
from uuid import uuid4

import pytest

import embedfleet as ef
from embedfleet_schema.statements import load
from embedfleet_schema.store import transitions
from embedfleet_workers.cooling import Cooling
from embedfleet_workers.embedding_errors import EmbedderBusy
from plugins.fleets import ask, batches_of
from plugins.pipelines import PartsEmbedder, ScriptedEmbedder, pipeline_around
from plugins.query_plans import buffers_read, most_read, nodes

BACKLOG = 20_000
VALUES = {
    "queue": "cpu",
    "owner": uuid4(),
    "lease_seconds": 60,
    "skipped": [],
    "provider_batch_id": None,
    "first": -1,
    "last": 0,
}
# The two ways to claim, and the index that each goes by.
INDEXES = {"best": "ix_batch_claim", "best_excluding": "ix_batch_claim_excluding"}


@pytest.fixture
def busy(fleet):
    """A collection whose space cools in these tests; its batch was there first."""
    docs = fleet.collection("busy", model="fake/16")
    docs.enqueue([ef.Document("one", "a text that came first")])
    return docs


@pytest.fixture
def free(fleet, busy):
    docs = fleet.collection("free", model="fake/8")
    docs.enqueue([ef.Document("other", "a text that came later")])
    return docs


def put_many(fleet, docs, count=BACKLOG, *, counted=True):
    ask(
        fleet,
        "INSERT INTO embedfleet.batch (job_id, collection_id, space_id, queue, state, run_after,"
        " chunks, tokens, texts) SELECT 1, %s, %s, 'cpu', 'pending', now() - interval '1 h', 1, 5,"
        " ARRAY[n] FROM generate_series(1, %s) AS n",
        *(docs.info.id, docs.info.space_id, count),
    )
    if counted:
        ask(fleet, "ANALYZE embedfleet.batch")


def test_a_batch_of_a_space_that_cools_is_not_claimed_and_others_are(fleet, busy, free):
    lease = batches_of(fleet).claim("cpu", excluding=[busy.info.space_id])
    assert free.info.id == lease.collection.id
    assert batches_of(fleet).claim("cpu", excluding=[busy.info.space_id]) is None
    assert busy.info.id == batches_of(fleet).claim("cpu").collection.id


def test_without_a_space_the_best_batch_comes_first_whatever_its_collection(fleet, busy, free):
    more = fleet.collection("more", model="fake/4")
    more.enqueue([ef.Document("third", "a text that came last")])
    free.enqueue([ef.Document("fourth", "one that came after it")])
    found = []
    while lease := batches_of(fleet).claim("cpu", excluding=[busy.info.space_id]):
        found.append(lease.collection.name)
    assert ["free", "more", "free"] == found


def test_two_who_exclude_the_same_space_get_different_batches(fleet, busy, free):
    free.enqueue([ef.Document("more", "a second one of it")])
    values = VALUES | {"excluding": [busy.info.space_id]}
    with fleet.db.transaction() as conn, conn.transaction():
        first = transitions.claim(conn, "best_excluding", values)
        second = batches_of(fleet).claim("cpu", excluding=[busy.info.space_id])
        assert second is not None
        assert first[0] != second.id


def add_collections(fleet, docs, count):
    """So many more of a space, without tables; each has a batch that waits."""
    ask(
        fleet,
        "WITH more AS (INSERT INTO embedfleet.collection (name, space_id, chunk_size,"
        " chunk_overlap, chunk_mode, tokenizer, queue) SELECT 'c' || %s || '_' || n, %s, 0, 0,"
        " 'text', '', 'cpu' FROM generate_series(1, %s) AS n RETURNING id, space_id)"
        " INSERT INTO embedfleet.batch (job_id, collection_id, space_id, queue, state, chunks,"
        " tokens, texts) SELECT 1, id, space_id, 'cpu', 'pending', 1, 5, '{1}' FROM more",
        *(docs.info.id, docs.info.space_id, count),
    )


@pytest.mark.parametrize("collections", [0, 30, 10_000])
def test_a_backlog_is_not_read_by_claims_from_it_or_without_a_space_that_cools(
    fleet, busy, free, collections
):
    """Whatever a planner knows of the table, for whomever it plans, and however many collections
    share the spaces.
    """
    with fleet.db.transaction() as conn, conn.transaction(force_rollback=True):
        # How high the indexes are is remembered by who saw them, and they grow unequally.
        transitions.by_index(conn)
        for best in INDEXES:
            conn.execute(transitions.claiming(best), {**VALUES, "excluding": []})
    add_collections(fleet, busy, collections // 2)
    add_collections(fleet, free, collections // 2)
    put_many(fleet, busy, 100_000, counted=False)
    read_little(fleet, busy)
    ask(fleet, "ANALYZE embedfleet.batch")
    read_little(fleet, busy)


def read_little(fleet, docs):
    """Each claim, by each plan, goes by its index and reads the first rows alone."""
    values = VALUES | {"excluding": [docs.info.space_id]}
    for best, index in INDEXES.items():
        claiming = transitions.claiming(best).as_string()
        for mode in ("force_custom_plan", "force_generic_plan"):
            # In one session, whose first claim reads catalogs, too.
            with fleet.db.transaction() as conn:
                conn.execute(f"SET LOCAL plan_cache_mode = {mode}")
                transitions.by_index(conn)
                for again in range(3):
                    with conn.transaction(force_rollback=True):
                        explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {claiming}"
                        explained = conn.execute(explain, values, prepare=True).fetchall()
                    assert index in {node.get("Index Name") for node in nodes(explained)}
                    assert 10 > most_read(explained)
                    assert not again or 50 >= buffers_read(explained)


def test_of_many_batches_to_be_filed_no_more_is_read_than_one_provider_batch_takes(fleet, busy):
    """Its batches come from the index in their order, whatever else there is."""
    put_many(fleet, busy)
    ask(fleet, "UPDATE embedfleet.batch SET delivery = 'provider_batch'")
    ask(fleet, "ANALYZE embedfleet.batch")
    values = {"space_id": busy.info.space_id, "limit": 100, "priced": True}
    with fleet.db.transaction() as conn, conn.transaction(force_rollback=True):
        candidates = load("provider_batches")["candidates"].as_string()
        explained = conn.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {candidates}", values).fetchall()
    assert "ix_batch_unfiled" in {node.get("Index Name") for node in nodes(explained)}
    assert 100 == most_read(explained)


def refuse(seconds):
    def before(_number):
        raise EmbedderBusy(seconds=seconds, reason="the rate limit of fake/16")

    return before


def test_a_busy_provider_keeps_no_slot_and_no_other_space_from_work(fleet, busy, free):
    rings = queue.Queue()
    cooling = Cooling(rings.put)
    embedder = PartsEmbedder(busy.info.space, 1, before=refuse(30.0))
    pipeline, stats = pipeline_around(fleet, embedder, cooling=cooling)
    assert "defer" == pipeline.run_one("cpu")
    healthy = ScriptedEmbedder(free.info.space, lambda _, vectors: vectors)
    other, _ = pipeline_around(fleet, healthy, cooling=cooling)
    assert ["done", "idle"] == [other.run_one("cpu"), other.run_one("cpu")]
    assert ["fake/16"] == [each.space for each in stats]
    cooling.stop()


def test_a_batch_that_waits_shortly_keeps_its_place_and_says_until_when(fleet, busy):
    cooling = Cooling()
    put_many(fleet, fleet.collection("many", model="fake/8"), 100)
    ask(fleet, "UPDATE embedfleet.batch SET run_after = now() - interval '2 h' WHERE id = 1")
    embedder = PartsEmbedder(busy.info.space, 1, before=refuse(30.0))
    pipeline, _ = pipeline_around(fleet, embedder, cooling=cooling)
    assert "defer" == pipeline.run_one("cpu")
    assert 1 == batches_of(fleet).claim("cpu").id
    cooling.stop()


def test_what_a_batch_waits_for_is_in_status_and_explain(fleet, busy):
    cooling = Cooling()
    embedder = PartsEmbedder(busy.info.space, 1, before=refuse(30.0))
    pipeline, _ = pipeline_around(fleet, embedder, cooling=cooling)
    pipeline.run_one("cpu")
    ((clock,),) = ask(
        fleet,
        "SELECT to_char((now() + interval '30 s') AT TIME ZONE 'UTC', 'HH24:MI')",
    )
    status = fleet.job(1).status
    assert "the rate limit of fake/16, until " in status.reason
    assert " UTC" in status.reason
    assert "the rate limit of fake/16, until " in str(busy.explain("one"))
    assert clock[:2].isdecimal()
    cooling.stop()


def test_a_batch_that_waits_for_long_lets_the_others_go_first(fleet, busy):
    cooling = Cooling()
    embedder = PartsEmbedder(busy.info.space, 1, before=refuse(3_600.0))
    pipeline, _ = pipeline_around(fleet, embedder, cooling=cooling)
    assert "defer" == pipeline.run_one("cpu")
    in_minutes = "SELECT extract(epoch FROM run_after - now()) / 60 BETWEEN 9 AND 10"
    assert [(True,)] == ask(fleet, f"{in_minutes} FROM embedfleet.batch")
    cooling.stop()


def test_the_end_of_the_wait_rings_by_itself_and_the_batch_is_taken(fleet, busy):
    rings = queue.Queue()
    cooling = Cooling(rings.put)
    waits = [refuse(0.2)]
    embedder = PartsEmbedder(busy.info.space, 1, before=lambda n: waits and waits.pop()(n))
    pipeline, _ = pipeline_around(fleet, embedder, cooling=cooling)
    assert "defer" == pipeline.run_one("cpu")
    assert "cpu" == rings.get(timeout=60)
    assert "done" == pipeline.run_one("cpu")
    cooling.stop()
