"""Who may write to Redis can ring, and can keep rings from being heard, and nothing else."""

import asyncio
import base64
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import celery
import psutil
import pytest
import redis

from embedfleet.fleet import Fleet
from embedfleet_schema.redis_url import PREFIX
from embedfleet_schema.rings import TASK
from embedfleet_workers.rate_limits.quota import LimitKey
from embedfleet_workers.rate_limits.stores.redis_store import RedisStore
from embedfleet_workers.stop import Stop
from plugins.failpoints import documents
from plugins.fleets import ask
from plugins.worker_processes import WorkerProcess, eventually

CPU = f"{PREFIX}:cpu"
BUILT_IN = ("map", "starmap", "chunks", "chord_unlock", "backend_cleanup", "accumulate", "group")
BOMB_BYTES = 200_000_000
SPARE_BYTES = 60_000_000


class Attacker:
    """Somebody who has the broker's password, and Celery."""

    def __init__(self, url: str) -> None:
        self.app = celery.Celery(broker=url, set_as_current=False)
        self.app.conf.broker_transport_options = {"global_keyprefix": f"{PREFIX}:"}
        self.client = redis.Redis.from_url(url)

    def send(
        self, task: str = TASK, args: tuple[object, ...] = ("cpu",), **options: object
    ) -> None:
        self.app.send_task(task, args=args, queue="cpu", **options)

    def made(self, **options: object) -> bytes:
        """A message that nobody has seen yet."""
        self.app.send_task(TASK, args=("cpu",), queue="spare", **options)
        return self.client.lpop(f"{PREFIX}:spare")

    def push(self, *entries: bytes) -> None:
        self.client.lpush(CPU, *entries)


def time_limits(attacker: Attacker) -> None:
    for _ in range(20):
        attacker.send(time_limit=0.01, soft_time_limit=0.005)


def built_in_tasks(attacker: Attacker) -> None:
    for name in BUILT_IN:
        attacker.send(f"celery.{name}", args=({"task": TASK}, [["cpu"]]))


def callbacks(attacker: Attacker) -> None:
    other = attacker.app.signature(TASK, args=("cuda",), queue="cuda")
    attacker.send(link=other, link_error=other, chord=other, chain=[other])


def bombs(attacker: Attacker) -> None:
    message = json.loads(attacker.made())
    message["headers"]["compression"] = "application/x-gzip"
    for size in (1_000_000, BOMB_BYTES):
        packed = gzip.compress(bytes(size), 9)
        attacker.push(json.dumps({**message, "body": base64.b64encode(packed).decode()}).encode())


def later(attacker: Attacker) -> None:
    attacker.push(*[attacker.made(countdown=3_600)] * 3_000)


def never(attacker: Attacker) -> None:
    attacker.send(expires=-3_600)
    attacker.send(eta="no time at all")


def nonsense(attacker: Attacker) -> None:
    attacker.push(b"\xff", b"[]", b"{}", b"[" * 3_000, b'{"headers": 7}', b"x" * 1_000_000)


@pytest.fixture
def attacker(fleet: Fleet) -> Attacker:
    attacker = Attacker(fleet.settings.redis)
    yield attacker
    attacker.client.close()
    attacker.app.close()


def children(worker: WorkerProcess) -> set[int]:
    return {child.pid for child in psutil.Process(worker.pid).children()}


def peak_bytes(worker: WorkerProcess) -> int:
    status = Path(f"/proc/{worker.pid}/status").read_text().splitlines()
    (peak,) = (line.split()[1] for line in status if line.startswith("VmHWM"))
    return int(peak) * 1_024


def tasks(worker: WorkerProcess) -> set[str]:
    """The names of the tasks that the worker received."""
    lines = [line for line in worker.log.read_text().splitlines() if "] received" in line]
    return {line.split("Task ")[1].split("[")[0] for line in lines}


@pytest.mark.parametrize(
    "attack", [time_limits, built_in_tasks, callbacks, bombs, later, never, nonsense]
)
def test_a_message_is_a_ring_or_nothing(
    fleet: Fleet,
    attacker: Attacker,
    worker_process: Callable[..., WorkerProcess],
    attack: Callable[[Attacker], None],
):
    docs = fleet.collection("docs", model="fake/16")
    worker = worker_process(pool="prefork", slots=2, fake_faults="latency=0.05")
    eventually(fleet.workers)
    assert 20 == docs.enqueue(documents(20)).wait(timeout_s=60).embedded
    before, peak = children(worker), peak_bytes(worker)
    attack(attacker)
    assert 60 == docs.enqueue(documents(60, "after it")).wait(timeout_s=60).embedded
    eventually(lambda: attacker.client.llen(CPU) == 0)
    assert worker.process.poll() is None
    assert (before, {TASK}) == (children(worker), tasks(worker))
    assert peak_bytes(worker) < peak + SPARE_BYTES
    keys = {key.decode() for key in attacker.client.keys("*")}
    assert set() == {key for key in keys if "cuda" in key or "unacked" in key}
    assert "Traceback" not in worker.log.read_text()
    ((faults,),) = ask(fleet, "SELECT sum(attempt) FROM embedfleet.batch WHERE state <> 'done'")
    assert faults is None


def test_a_book_of_unanswered_messages_is_not_read(fleet, attacker, worker_process):
    ring = attacker.made().decode()
    book = {
        "one": b"no message at all",
        "two": json.dumps([json.loads(ring), "", "limit:openai/a/b"]).encode(),
    }
    attacker.client.hset(f"{PREFIX}:unacked", mapping=book)
    attacker.client.zadd(f"{PREFIX}:unacked_index", dict.fromkeys(book, 1.0))
    worker = worker_process()
    docs = fleet.collection("docs", model="fake/16")
    assert 20 == docs.enqueue(documents(20)).wait(timeout_s=60).embedded
    assert 0 == worker.end()
    left = attacker.client.hgetall(f"{PREFIX}:unacked")
    assert book == {name.decode(): entry for name, entry in left.items()}
    assert not attacker.client.exists(f"{PREFIX}:limit:openai/a/b")
    assert "Traceback" not in worker.log.read_text()


def test_a_queue_that_is_none_is_waited_for(fleet, attacker, worker_process):
    attacker.client.hset(CPU, "a", "hash")
    worker = worker_process()
    eventually(lambda: "something else: delete it in Redis" in worker.log.read_text(), timeout_s=20)
    attacker.client.delete(CPU)
    docs = fleet.collection("docs", model="fake/16")
    assert 20 == docs.enqueue(documents(20)).wait(timeout_s=60).embedded
    assert worker.process.poll() is None


def test_a_worker_listens_to_nobody_but_its_queue(fleet, attacker, worker_process):
    worker = worker_process()
    eventually(fleet.workers)
    docs = fleet.collection("docs", model="fake/16")
    assert 20 == docs.enqueue(documents(20)).wait(timeout_s=60).embedded
    assert (0, []) == (attacker.client.pubsub_numpat(), attacker.client.pubsub_channels())
    assert worker.process.poll() is None


def test_a_stop_that_somebody_wrote_pauses_nothing(api_fleet):
    ours = api_fleet()
    words = "an attacker's own words"
    attacker = Attacker(ours.fleet.settings.redis)
    with ours.working(processes=1):
        assert 5 == ours.enqueue(5).wait(timeout_s=60).embedded
        (state,) = [
            key
            for key in attacker.client.keys(f"{PREFIX}:limit:*")
            if attacker.client.type(key) == b"hash"
        ]
        stop(attacker, state, words)
        job = ours.enqueue(10, name="more")
        assert 10 == job.wait(timeout_s=60).embedded
    assert [] == ours.fleet.paused()
    assert [] == ask(
        ours.fleet, "SELECT 1 FROM embedfleet.batch WHERE reason LIKE %s", f"%{words}%"
    )
    attacker.client.close()


def stop(attacker: Attacker, state: bytes, words: str) -> None:
    """As the limiter's own script does it."""

    async def write() -> None:
        store = RedisStore(attacker.app.conf.broker_url)
        key = LimitKey(*state.decode().removeprefix(PREFIX).split("/", 2))
        await store.stop(key, Stop("INSUFFICIENT_QUOTA", words), words)
        await store.close()

    asyncio.run(write())
