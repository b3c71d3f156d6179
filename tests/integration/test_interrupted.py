"""Producers that stop before the end: what is committed stays, and the job says what happened."""

import asyncio
import contextvars
import os
import signal
import subprocess
import sys
import threading

import pytest

import embedfleet as ef
from plugins.fleets import ask, documents, drain
from plugins.worker_processes import eventually


@pytest.fixture
def fleet(migrated_url, redis_url):
    """Windows of ten documents, and producers that beat quickly."""
    settings = {"window_documents": 10, "lease_seconds": 2.0, "heartbeat_seconds": 0.2}
    with ef.connect(migrated_url, redis_url, batch_tokens_cpu=64, **settings) as fleet:
        yield fleet


class Endless:
    """Asynchronous documents without an end; tells when it was closed and how far it came."""

    def __init__(self):
        self.given = 0
        self.closed = threading.Event()
        self.enough = asyncio.Event()

    async def documents(self):
        try:
            while True:
                self.given += 1
                yield ef.Document(f"d{self.given}", f"text number {self.given}")
                if self.given > 35:
                    self.enough.set()
                await asyncio.sleep(0)
        finally:
            self.closed.set()


def the_job(fleet):
    (job,) = fleet.jobs()
    return job


def test_a_cancelled_call_stops_reading_and_leaves_an_interrupted_job(fleet, docs, worker):
    async def caller():
        source = Endless()
        call = asyncio.create_task(docs.aenqueue(source.documents()))
        await source.enough.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        given = source.given
        assert source.closed.is_set()
        await asyncio.sleep(0.05)
        assert given == source.given
        return given

    given = asyncio.run(caller())
    status = the_job(fleet).status
    assert ("interrupted", False) == (status.state, status.finished)
    assert 20 <= status.documents <= given
    drain(worker())
    status = the_job(fleet).wait(timeout_s=5)
    assert ("interrupted", status.documents) == (status.state, status.embedded)
    assert docs.audit().clean


def test_a_call_that_takes_too_long_is_cancelled_by_wait_for(fleet, docs):
    async def caller():
        source = Endless()
        call = asyncio.create_task(docs.aenqueue(source.documents()))
        await source.enough.wait()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(call, 0.01)
        return source

    source = asyncio.run(caller())
    assert source.closed.is_set()
    assert "interrupted" == the_job(fleet).status.state


def test_the_end_of_an_event_loop_interrupts_what_it_still_enqueues(fleet, docs):
    async def caller():
        source = Endless()
        caller.call = asyncio.create_task(docs.aenqueue(source.documents()))
        await source.enough.wait()
        return source

    source = asyncio.run(caller())
    assert source.closed.is_set()
    assert "interrupted" == the_job(fleet).status.state


CLOSE_THE_LOOP = """
import asyncio, os
import embedfleet as ef
fleet = ef.connect(window_documents=10)
docs = fleet.collection("docs")
loop = asyncio.new_event_loop()
enough = asyncio.Event()
async def source():
    for n in range(10**9):
        if n == 35:
            enough.set()
        yield ef.Document(f"d{n}", f"text number {n}")
        await asyncio.sleep(0)
call = loop.create_task(docs.aenqueue(source()))
loop.run_until_complete(enough.wait())
loop.close()
job = fleet.jobs()[0]
while job.status.state == "loading":
    pass
print(job.status.state, flush=True)
os._exit(0)
"""


def test_a_loop_that_is_closed_without_a_word_interrupts_what_it_enqueues(fleet, docs):
    servers = {
        "EMBEDFLEET_DATABASE_URL": fleet.settings.database,
        "EMBEDFLEET_REDIS_URL": fleet.settings.redis,
    }
    command = [sys.executable, "-c", CLOSE_THE_LOOP]
    done = subprocess.run(
        command, env={**os.environ, **servers}, capture_output=True, text=True, check=True
    )
    assert "interrupted\n" == done.stdout


@pytest.mark.parametrize("left", [1, 35])
def test_a_cancelled_call_over_a_plain_generator_closes_it(fleet, docs, left):
    closed, begun, go_on = threading.Event(), threading.Event(), threading.Event()

    def endless():
        try:
            for document in documents(10**9):
                if document.key == f"d{left}":
                    begun.set()
                    go_on.wait(30)
                yield document
        finally:
            closed.set()

    def documents(count):
        return (ef.Document(f"d{n}", f"text number {n}") for n in range(count))

    async def caller():
        call = asyncio.create_task(docs.aenqueue(endless()))
        await asyncio.to_thread(begun.wait)
        call.cancel()
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(caller())
    assert closed.is_set()
    status = the_job(fleet).status
    assert ("interrupted", left // 10 * 10) == (status.state, status.documents)


@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit, SystemExit])
def test_an_interrupt_leaves_what_is_committed(fleet, docs, error):
    def source():
        yield from documents(15)
        raise error

    with pytest.raises(error):
        docs.enqueue(source())
    status = the_job(fleet).status
    assert ("interrupted", 10) == (status.state, status.documents)


def test_a_source_that_raises_leaves_all_that_was_read(fleet, docs, worker):
    def source():
        yield from documents(15)
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        docs.enqueue(source())
    status = the_job(fleet).status
    assert ("interrupted", 15) == (status.state, status.documents)
    drain(worker())
    assert 15 == the_job(fleet).wait(timeout_s=5).embedded
    assert ("done", 15) == ((again := docs.enqueue(documents(15)).status).state, again.unchanged)


def test_an_asynchronous_source_that_raises_leaves_all_that_was_read(fleet, docs):
    async def source():
        for document in documents(15):
            yield document
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        asyncio.run(docs.aenqueue(source()))
    status = the_job(fleet).status
    assert ("interrupted", 15) == (status.state, status.documents)


class Awaitables:
    """Asynchronous documents without a coroutine: its errors come before it is awaited."""

    def __init__(self, end):
        self._left = documents(15)
        self._end = end

    def __aiter__(self):
        return self

    def __anext__(self):
        if not self._left:
            raise self._end
        ended = asyncio.get_running_loop().create_future()
        ended.set_result(self._left.pop())
        return ended


def test_an_asynchronous_source_may_be_written_without_coroutines(docs):
    job = asyncio.run(docs.aenqueue(Awaitables(StopAsyncIteration())))
    assert (15, "running") == (job.enqueued.documents, job.status.state)
    with pytest.raises(ValueError, match="broken"):
        asyncio.run(docs.aenqueue(Awaitables(ValueError("broken"))))


def test_no_error_of_an_asynchronous_source_is_taken_for_its_end(fleet, docs):
    with pytest.raises(RuntimeError, match="StopIteration"):
        asyncio.run(docs.aenqueue(Awaitables(StopIteration())))
    (job,) = fleet.jobs()
    assert (15, "interrupted") == (job.status.documents, job.status.state)


def test_a_slow_producer_is_never_taken_for_interrupted(fleet, docs):
    states = set()

    def slow():
        yield documents(1)[0]
        job = the_job(fleet)
        # Longer than its lease: it says that it lives while the source takes its time.
        eventually(lambda: ask(fleet, PAST, job.id) == [(True,)])
        states.add(job.status.state)
        yield documents(2)[1]

    job = docs.enqueue(slow())
    assert {"loading"} == states
    assert ("running", 2) == (job.status.state, job.status.documents)


PAST = "SELECT now() > created_at + interval '4 s' FROM embedfleet.job WHERE id = %s"
ENQUEUE = """
import embedfleet as ef, time
def source():
    for n in range(15):
        yield ef.Document(f"d{n}", f"text number {n}")
    print("read", flush=True)
    time.sleep(600)
with ef.connect() as fleet:
    fleet.collection("docs").enqueue(source())
"""


@pytest.fixture
def producer(fleet, docs):
    """A producer in a process of its own, which waits in its source."""
    environment = {
        "EMBEDFLEET_DATABASE_URL": fleet.settings.database,
        "EMBEDFLEET_REDIS_URL": fleet.settings.redis,
        "EMBEDFLEET_LEASE_SECONDS": "2",
        "EMBEDFLEET_HEARTBEAT_SECONDS": "0.2",
        "EMBEDFLEET_WINDOW_DOCUMENTS": "10",
    }
    with subprocess.Popen(
        [sys.executable, "-c", ENQUEUE],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert "read\n" == process.stdout.readline()
        yield process
        process.kill()


def test_the_job_of_a_killed_producer_is_interrupted(fleet, producer, worker):
    eventually(lambda: 10 == the_job(fleet).status.documents)
    assert "loading" == the_job(fleet).status.state
    producer.kill()
    eventually(lambda: "interrupted" == the_job(fleet).status.state)
    drain(worker())
    status = the_job(fleet).wait(timeout_s=5)
    assert ("interrupted", True, 10) == (status.state, status.finished, status.embedded)
    assert "enqueue the same documents again" in status.reason


def test_a_frozen_producer_goes_on_where_it_was(fleet, producer):
    producer.send_signal(signal.SIGSTOP)
    eventually(lambda: "interrupted" == the_job(fleet).status.state)
    producer.send_signal(signal.SIGCONT)
    eventually(lambda: "loading" == the_job(fleet).status.state)


def test_a_job_of_a_producer_from_before_is_not_loading_for_ever(fleet, docs):
    insert = (
        "INSERT INTO embedfleet.job (collection_id, kind) VALUES (%s, 'enqueue')"
        " RETURNING loading_until > now() + interval '23 hours'"
    )
    assert [(True,)] == ask(fleet, insert, docs.info.id)
    assert "loading" == the_job(fleet).status.state
    ask(fleet, "UPDATE embedfleet.job SET loading_until = now() - interval '1 s'")
    assert "interrupted" == the_job(fleet).status.state


def test_an_interrupted_job_can_be_paused_and_cancelled(fleet, docs):
    def source():
        yield from documents(15)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        docs.enqueue(source())
    job = the_job(fleet)
    job.pause()
    assert "paused" == job.status.state
    job.resume()
    assert "interrupted" == job.status.state
    job.cancel()
    assert "cancelled" == job.wait(timeout_s=1).state


@pytest.fixture
def ended(fleet, docs, worker):
    """An interrupted job whose batches are all done."""

    def source():
        yield from documents(15)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        docs.enqueue(source())
    drain(worker())
    return the_job(fleet)


@pytest.mark.parametrize("what", ["cancel", "pause", "resume"])
def test_an_interrupted_job_that_is_over_stays_so(fleet, ended, what):
    getattr(ended, what)()
    status = ended.wait(timeout_s=0)
    assert ("interrupted", 15, None) == (status.state, status.embedded, status.resume)
    assert [(None, None)] == ask(fleet, "SELECT paused_at, cancelled_at FROM embedfleet.job")


@pytest.mark.parametrize("what", ["cancel", "pause", "resume"])
def test_the_commands_leave_a_job_that_is_over_as_it_is(ended, command, what):
    assert (0, f"job {ended.id} is interrupted\n") == (
        (got := command(what, ended.id)).code,
        got.out,
    )
    assert "interrupted" == command(what, ended.id, "--json").json["state"]


def test_the_job_of_a_killed_producer_that_is_over_is_not_cancelled(fleet, ended):
    """Nobody said that it is interrupted: its time to say that it lives ran out."""
    ask(fleet, "UPDATE embedfleet.job SET interrupted_at = NULL, loading_until = now()")
    ended.cancel()
    assert "interrupted" == ended.status.state


def test_a_job_that_still_loads_is_cancelled_and_paused_without_a_batch(fleet, docs):
    def source():
        yield from documents(15)
        job = the_job(fleet)
        job.pause()
        states.append(job.status.state)
        job.cancel()
        states.append(job.status.state)

    states = []
    docs.enqueue(source())
    assert ["paused", "cancelled"] == states


def test_the_commands_say_what_to_do_about_an_interrupted_job(fleet, docs, command):
    def source():
        yield from documents(15)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        docs.enqueue(source())
    job = the_job(fleet)
    for words in (["status"], ["status", job.id]):
        got = command(*words)
        assert (0, "interrupted") == (got.code, "interrupted" if "interrupted" in got.out else "")
        assert "enqueue the same documents again" in got.out
    assert "interrupted" == command("status", job.id, "--json").json["state"]


def test_a_call_whose_source_hangs_is_cancelled_all_the_same(fleet, docs, monkeypatch):
    monkeypatch.setattr("embedfleet_producer.async_bridge.STOP_S", 0.1)
    begun, go_on = threading.Event(), threading.Event()

    def hanging():
        yield ef.Document("a", "text")
        begun.set()
        go_on.wait(30)
        yield ef.Document("b", "text")

    async def caller():
        call = asyncio.create_task(docs.aenqueue(hanging()))
        await asyncio.to_thread(begun.wait)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(caller())
    assert "loading" == the_job(fleet).status.state
    go_on.set()
    eventually(lambda: "interrupted" == the_job(fleet).status.state)
    assert 0 == the_job(fleet).status.documents


def test_context_variables_and_scopes_of_an_asynchronous_source_hold(docs):
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)

    async def source():
        async with asyncio.timeout(60):
            for n in range(3):
                variable.set(n)
                yield ef.Document(f"d{n}", "text")
                assert n == variable.get()

    assert 3 == asyncio.run(docs.aenqueue(source())).enqueued.documents
