"""The door: collections opened and created, jobs, asynchronous callers, rejected documents."""

import asyncio
import gc
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

import embedfleet as ef
from embedfleet_schema.errors import (
    BadChunking,
    BadName,
    ChunkingMismatch,
    ModelMismatch,
    UnknownCollection,
    UnknownJob,
    WaitTimeout,
)
from plugins.fleets import ask, documents, drain
from plugins.worker_processes import eventually


def test_a_collection_that_was_made_without_a_size_has_400_and_is_opened_by_the_same_words(fleet):
    chunking = ef.Chunking(overlap=20)
    docs = fleet.collection("docs", model="fake/16", chunking=chunking)
    assert ef.Chunking(400, 20, template="") == docs.info.chunking
    assert docs.info == fleet.collection("docs", model="fake/16", chunking=chunking).info
    assert docs.info == fleet.collection("docs", model="fake/16", metric="cosine").info
    with pytest.raises(ChunkingMismatch):
        fleet.collection("docs", chunking=ef.Chunking(300, 20))
    with pytest.raises(ChunkingMismatch):
        fleet.plan("docs", [], chunking=ef.Chunking(overlap=21))


def test_a_collection_from_before_keeps_its_size(fleet):
    """Those that nobody gave a size have 0: as many tokens as the model takes."""
    docs = fleet.collection("docs", model="fake/16", chunking=ef.Chunking(0, mode="markdown"))
    assert 0 == docs.info.chunking.size
    for chunking in (None, ef.Chunking(mode="markdown")):
        assert docs.info == fleet.collection("docs", model="fake/16", chunking=chunking).info
    docs.enqueue([ef.Document("a", "word " * 512)])
    assert 1 == docs.plan([ef.Document("b", "word " * 512)]).chunks


@pytest.mark.parametrize(
    "chunking",
    [ef.Chunking(513), ef.Chunking(100, 100), ef.Chunking(mode="html"), ef.Chunking(-1)],
)
def test_a_chunking_that_cannot_work_is_refused_at_once(fleet, chunking):
    with pytest.raises(BadChunking):
        fleet.collection("docs", model="fake/16", chunking=chunking)
    with pytest.raises(BadChunking):
        fleet.plan("docs", iter(()), "fake/16", chunking=chunking)
    assert [] == fleet.collections()


def test_a_prompt_that_leaves_no_room_is_refused_at_once(fleet):
    with pytest.raises(BadChunking, match="leaves no room"):
        fleet.collection("docs", model="fake/16", document_prompt="word " * 512)


def test_a_collection_is_created_once_and_opened_after(fleet):
    docs = fleet.collection("docs", model="fake/16")
    assert docs.info == fleet.collection("docs").info
    assert docs.info == fleet.collection("docs", model="fake/16").info
    assert ["docs"] == [each.name for each in fleet.collections()]


def test_two_threads_that_create_the_same_collection_share_it(fleet):
    barrier = threading.Barrier(4)

    def create(_):
        barrier.wait()
        return fleet.collection("docs", model="fake/16").info

    with ThreadPoolExecutor(4) as pool:
        assert 1 == len(set(pool.map(create, range(4))))


def test_of_many_collections_those_near_an_unknown_one_are_told(fleet, docs):
    ask(
        fleet,
        "INSERT INTO embedfleet.collection (name, space_id, chunk_size, chunk_overlap, chunk_mode,"
        " tokenizer, queue) SELECT 'tenant_' || n, %s, 0, 0, 'text', '', 'cpu'"
        " FROM generate_series(100, 200) AS n",
        docs.info.space_id,
    )
    near = ", ".join(f"tenant_{n}" for n in range(140, 160))
    with pytest.raises(UnknownCollection) as caught:
        fleet.collection("tenant_149x")
    assert f"There are: {near}, and more. Create it" in str(caught.value)


def test_an_unknown_collection_is_told_with_those_that_exist(fleet):
    fleet.collection("handbook", model="fake/16")
    with pytest.raises(UnknownCollection, match="There are: handbook"):
        fleet.collection("hanbdook")


def test_another_model_for_a_name_is_refused(fleet):
    fleet.collection("docs", model="fake/16")
    with pytest.raises(ModelMismatch, match="create another collection"):
        fleet.collection("docs", model="fake/32")
    with pytest.raises(ModelMismatch):
        fleet.collection("docs", model="fake/16", storage="halfvec")


def test_a_model_behind_an_api_is_opened_by_its_name_with_or_without_its_dimensions(fleet):
    docs = fleet.collection("docs", model="openai/text-embedding-3-small", dimensions=512)
    assert ("api", 512, 8_191) == (
        docs.info.queue,
        docs.info.space.dimensions,
        docs.info.space.max_tokens,
    )
    assert docs.info == fleet.collection("docs", model="openai/text-embedding-3-small").info
    with pytest.raises(ModelMismatch, match="512 dimensions"):
        fleet.collection("docs", model="openai/text-embedding-3-small", dimensions=1_536)


def test_a_model_that_is_not_known_is_opened_as_its_creator_described_it(fleet):
    docs = fleet.collection("docs", model="openai/mine", dimensions=3_000, max_tokens=512)
    assert ("halfvec", 512) == (docs.info.space.storage, docs.info.space.max_tokens)
    assert docs.info == fleet.collection("docs", model="openai/mine").info


def test_another_way_to_cut_is_refused(fleet):
    fleet.collection("docs", model="fake/16", chunking=ef.Chunking(size=100))
    assert 100 == fleet.collection("docs", model="fake/16").info.chunking.size
    with pytest.raises(ChunkingMismatch):
        fleet.collection("docs", model="fake/16", chunking=ef.Chunking(size=50))


@pytest.mark.parametrize(
    "name", ["Docs", "1docs", "a-b", "", "a" * 64, "_vectors_1_1", "batch", "job", "x;y", 'x"y']
)
def test_a_name_that_cannot_be_a_view_is_refused(fleet, name):
    with pytest.raises(BadName):
        fleet.collection(name, model="fake/16")


def test_a_dropped_collection_leaves_nothing(fleet, worker):
    docs = fleet.collection("docs", model="fake/16")
    docs.enqueue(documents(5))
    drain(worker())
    docs.drop()
    with fleet.db.transaction() as conn:
        for table in ("collection", "batch", "job", "failure"):
            assert [(0,)] == conn.execute(f"SELECT count(*) FROM embedfleet.{table}").fetchall()
        left = "SELECT relname FROM pg_class WHERE relname ~ '^_+(documents|chunks|texts|vectors)_'"
        assert [] == conn.execute(left).fetchall()


def test_a_job_is_found_again_by_its_number(fleet, worker):
    docs = fleet.collection("docs", model="fake/16")
    job = docs.enqueue(documents(5))
    again = fleet.job(job.id)
    assert ("running", 5, 5) == (again.status.state, again.status.documents, again.status.queued)
    with pytest.raises(WaitTimeout, match="0 of 5 texts"):
        again.wait(timeout_s=0.2)
    drain(worker())
    status = again.wait(timeout_s=1)
    assert ("done", 5, 0) == (status.state, status.embedded, status.queued)
    assert [job.id] == [each.id for each in fleet.jobs()]
    with pytest.raises(UnknownJob):
        fleet.job(job.id + 1)


def test_bad_documents_get_a_verdict_and_harm_no_other(fleet, worker):
    docs = fleet.collection("docs", model="fake/16")
    job = docs.enqueue(
        [
            ef.Document("good", "text"),
            ef.Document("empty", "  "),
            ef.Document("nul", "a\0b"),
            ef.Document("good", "another text"),
            ef.Document("bad\0key", "text"),
            ef.Rejection("file.bin", "UNKNOWN_TYPE", "cannot be read"),
        ]
    )
    codes = {
        "empty": "EMPTY",
        "nul": "NUL_BYTE",
        "good": "DUPLICATE_KEY",
        "bad\\0key": "NUL_BYTE",
        "file.bin": "UNKNOWN_TYPE",
    }
    assert codes == {each.key: each.code for each in job.enqueued.rejections}
    assert codes == {each.document: each.code for each in docs.failures()}
    drain(worker())
    assert ("done", 1, 5) == ((status := job.status).state, status.documents, status.rejected)
    docs.enqueue([ef.Document("empty", "no longer")])
    assert "empty" not in {each.document for each in docs.failures()}


def test_a_key_that_comes_twice_in_one_call_is_taken_once(migrated_url, redis_url):
    with ef.connect(migrated_url, redis_url, window_documents=2) as fleet:
        docs = fleet.collection("docs", model="fake/16")
        stream = [ef.Document(f"d{n % 3}", f"text {n}") for n in range(9)]
        job = docs.enqueue(stream)
        assert (3, 6) == (job.enqueued.documents, job.enqueued.rejected)
        assert {"DUPLICATE_KEY"} == {each.code for each in job.enqueued.rejections}
        assert 3 == docs.counts().documents


def test_a_stream_that_breaks_keeps_what_was_read(migrated_url, redis_url):
    def broken():
        yield from documents(5)
        raise RuntimeError("the source broke")

    with ef.connect(migrated_url, redis_url, window_documents=2) as fleet:
        docs = fleet.collection("docs", model="fake/16")
        with pytest.raises(RuntimeError, match="the source broke"):
            docs.enqueue(broken())
        (job,) = fleet.jobs()
        assert ("interrupted", 5) == (job.status.state, job.status.documents)


def test_an_asynchronous_caller_enqueues_an_asynchronous_stream(fleet, worker):
    docs = fleet.collection("docs", model="fake/16")

    async def stream():
        for document in documents(7):
            await asyncio.sleep(0)
            yield document

    async def caller():
        first = await docs.aenqueue(stream())
        second = await docs.aenqueue(iter(documents(8)))
        return first, second

    first, second = asyncio.run(caller())
    assert (7, 1, 7) == (
        first.enqueued.documents,
        second.enqueued.documents,
        second.enqueued.unchanged,
    )
    drain(worker())
    assert 8 == docs.counts().live_documents


def test_an_asynchronous_stream_that_breaks_tells_its_caller(fleet):
    docs = fleet.collection("docs", model="fake/16")

    async def stream():
        yield ef.Document("a", "text")
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        asyncio.run(docs.aenqueue(stream()))


def test_a_function_of_the_callers_own_cuts_the_text(fleet, worker):
    docs = fleet.collection("docs", model="fake/16")

    def lines(text):
        if "fail" in text:
            raise ValueError("cannot cut")
        return text.splitlines()

    job = docs.enqueue(
        [ef.Document("a", "one line\n\nanother"), ef.Document("b", "fail")], chunk=lines
    )
    assert ["CHUNKER_FAILED"] == [each.code for each in job.enqueued.rejections]
    drain(worker())
    with fleet.db.transaction() as conn:
        rows = conn.execute(
            "SELECT position, start_offset, end_offset, content FROM embedfleet._chunks_1 AS c"
            " JOIN embedfleet._texts_1 AS t ON t.id = c.text_id ORDER BY c.id"
        ).fetchall()
    assert [(0, 0, 8, "one line"), (1, 10, 17, "another")] == rows


def test_metadata_of_a_chunk_goes_over_that_of_its_document(fleet, worker):
    docs = fleet.collection("docs", model="fake/16")
    chunk = ef.Chunk("text", metadata={"page": 2, "lang": "de"})
    docs.enqueue([ef.Document("a", chunks=[chunk, "more"], metadata={"lang": "en"})])
    drain(worker())
    (hit,) = docs.search("x", where={"page": 2})
    assert {"page": 2, "lang": "de"} == hit.metadata
    (hit,) = docs.search("x", where={"lang": "en"})
    assert "more" == hit.content


def test_a_fleet_that_is_closed_leaves_no_connection_to_redis(migrated_url, redis_url):
    """Not even until the garbage is collected."""
    gc.disable()
    try:
        with redis.Redis.from_url(redis_url) as watching:
            before = {each["id"] for each in watching.client_list()}
            for _ in range(3):
                with ef.connect(migrated_url, redis_url) as fleet:
                    docs = fleet.collection("docs", model="fake/16")
                    assert docs.enqueue(documents(1)).enqueued.rung
                    docs.drop()
            eventually(lambda: {each["id"] for each in watching.client_list()} <= before)
    finally:
        gc.enable()


def test_sockets_of_the_program_keep_the_limit_that_it_gave_them(
    migrated_url, redis_url, monkeypatch
):
    """Two fleets closed at once would leave kombu's limit behind for good."""
    changed = []
    monkeypatch.setattr(socket, "setdefaulttimeout", changed.append)
    with ef.connect(migrated_url, redis_url) as fleet:
        assert fleet.doorbell.ring("cpu")
    assert [] == changed


def test_a_ring_that_finds_its_pool_closed_takes_the_next_one(migrated_url, redis_url, monkeypatch):
    with ef.connect(migrated_url, redis_url) as fleet:
        doorbell = fleet.doorbell
        closing = doorbell._pool

        def closed(**_):
            doorbell.close()
            return type(closing).acquire(closing)

        monkeypatch.setattr(closing, "acquire", closed)
        assert doorbell.ring("cpu")


def test_a_ring_of_a_call_that_goes_on_while_its_fleet_is_closed_is_heard(migrated_url, redis_url):
    with ef.connect(migrated_url, redis_url) as fleet:
        doorbell = fleet.doorbell
        assert doorbell.ring("cpu")
    assert doorbell.ring("cpu")
    doorbell.close()
