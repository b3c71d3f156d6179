"""Doorbells that are doubled, lost, late or silent: F4, F5, F9 of docs/reliability.md."""

import random
import time

import psutil
import pytest
import redis

from embedfleet.fleet import Fleet
from embedfleet.stack import status, up
from plugins.failpoints import alive, documents, leased, repeated
from plugins.fleets import ask
from plugins.worker_processes import eventually

PRODUCER_S = 5.0
CONSUMING_AGAIN_S = 30.0
OF_FORMER_RATE = 0.9
OF_MINIMUM = 1.02


@pytest.fixture
def fleet(request):
    """The session's servers, or for tests that harm them some of the test's own."""
    own = "own_fleet" in request.fixturenames
    return request.getfixturevalue("own_fleet" if own else "session_fleet")


@pytest.fixture
def session_fleet(migrated_url, redis_url):
    from embedfleet_schema.settings import load_settings

    settings = load_settings(
        database_url=migrated_url, redis_url=redis_url, batch_tokens_cpu=64, heartbeat_seconds=1.0
    )
    with Fleet(settings) as fleet:
        yield fleet


def finished(fleet, seconds: float) -> int:
    """Batches that were finished in the last seconds, by the database's clock."""
    statement = (
        "SELECT count(*) FROM embedfleet.batch"
        " WHERE state = 'done' AND finished_at > clock_timestamp() - make_interval(secs => %s)"
    )
    return ask(fleet, statement, seconds)[0][0]


def timed_enqueue(docs, prefix: str) -> float:
    """Enqueue a hundred new documents; returns the seconds that the call took."""
    began = time.monotonic()
    docs.enqueue(documents(100, f"of {prefix}"))
    return time.monotonic() - began


def test_doorbells_that_come_ten_times_and_in_any_order_embed_nothing_twice(
    fleet, worker_process, seed, report
):
    docs = fleet.collection("docs", model="fake/16")
    job = docs.enqueue(documents(600))
    with redis.Redis.from_url(fleet.settings.redis) as client:
        rings = client.lrange("embedfleet:cpu", 0, -1) * 10
        random.Random(seed).shuffle(rings)
        client.rpush("embedfleet:cpu", *rings)
    for _ in range(2):
        worker_process(slots=2, fake_faults="latency=0.02", lease_seconds="30")
    assert 600 == job.wait(timeout_s=60).embedded
    ((batches,),) = ask(fleet, "SELECT count(*) FROM embedfleet.batch WHERE state = 'done'")
    report(rings=len(rings), batches=batches, embedded_again=repeated(fleet))
    assert batches + repeated(fleet) <= OF_MINIMUM * batches


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_redis_may_be_killed_and_emptied_and_the_work_goes_on(
    fleet, own_fleet, worker_process, report
):
    docs = fleet.collection("docs", model="fake/16")
    for _ in range(2):
        worker_process(slots=2, fake_faults="latency=0.2")
    eventually(lambda: len(alive(fleet)) == 2)
    docs.enqueue(documents(16_000))
    time.sleep(13)
    former = finished(fleet, 10) / 10
    psutil.Process(status(fleet.settings.data).valkey.pid).kill()
    down = time.monotonic()
    calls = []
    while time.monotonic() < down + 15:
        calls.append(timed_enqueue(docs, f"call {len(calls)}"))
        time.sleep(2)
    up(fleet.settings.data)
    time.sleep(30)
    again = finished(fleet, 10) / 10
    report(former_per_s=former, after_30_s=again, calls=len(calls), longest_call_s=max(calls))
    assert again >= OF_FORMER_RATE * former
    assert max(calls) <= PRODUCER_S
    with redis.Redis.from_url(fleet.settings.redis) as client:
        for _ in range(3):
            client.flushall()
            time.sleep(10)
            assert finished(fleet, 10) > 0
    report(emptied_per_s=finished(fleet, 10) / 10)


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_redis_may_hang_for_a_minute(fleet, own_fleet, worker_process, report):
    docs = fleet.collection("docs", model="fake/16")
    worker_process(slots=2, fake_faults="latency=0.2")
    docs.enqueue(documents(4_000))
    eventually(lambda: finished(fleet, 60) > 5)
    valkey = psutil.Process(status(fleet.settings.data).valkey.pid)
    valkey.suspend()
    frozen = time.monotonic()
    calls = []
    while time.monotonic() < frozen + 60:
        calls.append(timed_enqueue(docs, f"call {len(calls)}"))
        time.sleep(5)
    valkey.resume()
    before = ask(fleet, "SELECT count(*) FROM embedfleet.batch WHERE state = 'done'")[0][0]
    healed = time.monotonic()
    eventually(
        lambda: (
            ask(fleet, "SELECT count(*) FROM embedfleet.batch WHERE state = 'done'")[0][0]
            > before + 4
        )
    )
    report(longest_call_s=max(calls), consuming_again_s=time.monotonic() - healed)
    assert max(calls) <= PRODUCER_S
    assert time.monotonic() - healed <= CONSUMING_AGAIN_S


@pytest.mark.parametrize(
    ("latency_s", "most_s"),
    [
        # A ring would take a minute and more.
        (10.0, 20.0),
        pytest.param(2.0, PRODUCER_S, marks=pytest.mark.nightly),
        pytest.param(0.6, PRODUCER_S, marks=pytest.mark.nightly),
    ],
)
def test_a_producer_does_not_wait_for_a_redis_that_answers_late(
    fleet, proxy, report, latency_s, most_s
):
    slow, url = proxy(fleet.settings.redis)
    slow.delay(latency_s / 2)
    settings = fleet.settings.model_copy(update={"redis_url": type(fleet.settings.redis_url)(url)})
    with Fleet(settings) as far:
        docs = far.collection("docs", model="fake/16")
        calls = [timed_enqueue(docs, f"call {n}") for n in range(2)]
    report(latency_s=latency_s, longest_call_s=max(calls))
    assert max(calls) <= most_s


@pytest.mark.nightly
@pytest.mark.parametrize("resets", [20])
def test_workers_consume_again_after_each_broken_connection_to_redis(
    fleet, proxy, worker_process, report, resets
):
    broken, url = proxy(fleet.settings.redis)
    docs = fleet.collection("docs", model="fake/16")
    worker = worker_process(redis_url=url, fake_faults="latency=0.02")
    eventually(lambda: alive(fleet))
    longest = 0.0
    for n in range(resets):
        broken.reset()
        began = time.monotonic()
        job = docs.enqueue(documents(60, f"of round {n}"))
        assert 60 == job.wait(timeout_s=60).embedded
        longest = max(longest, time.monotonic() - began)
    report(resets=resets, longest_round_s=longest)
    assert longest <= CONSUMING_AGAIN_S
    assert worker.process.poll() is None
    assert 0 == leased(fleet)
