"""Redis is a doorbell: it may stop, hang or forget, and nothing is lost."""

from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import redis

import embedfleet as ef
from embedfleet.stack import status, up
from embedfleet_schema.broker import celery_app
from embedfleet_schema.rings import TASK
from plugins.failpoints import documents
from plugins.worker_processes import eventually


@pytest.fixture
def fleet(own_fleet):
    return own_fleet


def valkey(fleet) -> psutil.Process:
    pid = status(fleet.settings.data).valkey.pid
    assert pid is not None
    return psutil.Process(pid)


def test_enqueue_succeeds_while_redis_is_down_and_workers_find_it_later(fleet, worker_process):
    docs = fleet.collection("docs", model="fake/16")
    worker_process()
    eventually(fleet.workers)
    valkey(fleet).kill()
    job = docs.enqueue(documents(50))
    assert job.enqueued.documents == 50
    assert job.enqueued.rung is False
    up(fleet.settings.data)
    assert job.wait(timeout_s=60).embedded == 50


def test_workers_go_on_after_redis_forgot_everything(fleet, redis_url, worker_process):
    docs = fleet.collection("docs", model="fake/16")
    worker_process(fake_faults="latency=0.1")
    job = docs.enqueue(documents(200))
    eventually(lambda: job.status.embedded > 0)
    with redis.Redis.from_url(fleet.settings.redis) as client:
        client.flushall()
    assert job.wait(timeout_s=60).embedded == 200


def test_enqueue_returns_while_redis_hangs(fleet):
    docs = fleet.collection("docs", model="fake/16")
    process = valkey(fleet)
    process.suspend()
    try:
        job = docs.enqueue(documents(50))
        assert job.enqueued.rung is False
        assert job.status.queued == 50
    finally:
        process.resume()


def test_redis_stays_small_however_long_the_backlog(fleet):
    docs = fleet.collection("docs", model="fake/16")
    docs.enqueue(documents(2_000))
    assert sum(queue.ready for queue in fleet.queues()) > 64
    with redis.Redis.from_url(fleet.settings.redis) as client:
        assert client.llen("embedfleet:cpu") <= 64


def test_a_message_carries_no_text_no_key_and_no_secret(fleet):
    docs = fleet.collection("docs", model="fake/16")
    docs.enqueue([ef.Document("canary-key", "canary text about a secret thing")])
    with redis.Redis.from_url(fleet.settings.redis) as client:
        message = client.lindex("embedfleet:cpu", 0).decode()
    assert "canary" not in message
    assert (urlsplit(fleet.settings.database).password or "?") not in message


def test_foreign_entries_on_the_queue_are_dropped_and_the_worker_goes_on(fleet, worker_process):
    docs = fleet.collection("docs", model="fake/16")
    worker = worker_process()
    app = celery_app(fleet.settings.redis, socket_timeout_s=3)
    app.send_task("embedfleet.unknown", args=("cpu",), queue="cpu")
    app.send_task(TASK, args=("no-such-queue",), queue="cpu")
    with redis.Redis.from_url(fleet.settings.redis) as client:
        for junk in (
            b"no message",
            b"\xff\xfe",
            b"[]",
            b"{}",
            b'{"body": 1}',
            b'{"properties": 1}',
        ):
            client.lpush("embedfleet:cpu", junk)
    job = docs.enqueue(documents(20))
    assert job.wait(timeout_s=60).embedded == 20
    with redis.Redis.from_url(fleet.settings.redis) as client:
        eventually(lambda: client.llen("embedfleet:cpu") == 0)
    assert worker.process.poll() is None
    # The unknown task is none of the junk; what names our task is a ring, whatever it says else.
    eventually(lambda: worker.log.read_text().count("that is not one of our messages") == 7)


class Bomb:
    """What unpickling would run: it leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_messages_in_pickle_or_yaml_are_only_rings_and_run_no_code(fleet, worker_process, tmp_path):
    docs = fleet.collection("docs", model="fake/16")
    app = celery_app(fleet.settings.redis, socket_timeout_s=3)
    mark = tmp_path / "code-was-run"
    yaml = f"!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [{mark}]]"
    with app.connection_for_write() as connection:
        producer = connection.Producer()
        headers = {"task": TASK, "id": "1"}
        producer.publish(
            ((Bomb(mark),), {}, {}), serializer="pickle", routing_key="cpu", headers=headers
        )
        producer.publish(
            yaml,
            content_type="application/x-yaml",
            content_encoding="utf-8",
            routing_key="cpu",
            headers=headers,
        )
        assert 2 == connection.default_channel.client.llen("cpu")
    worker = worker_process()
    job = docs.enqueue(documents(20))
    assert job.wait(timeout_s=60).embedded == 20
    with redis.Redis.from_url(fleet.settings.redis) as client:
        eventually(lambda: client.llen("embedfleet:cpu") == 0)
    assert not mark.exists()
    assert worker.process.poll() is None
