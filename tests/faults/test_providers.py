"""Providers that refuse, fall silent or talk nonsense, and workers that die while they are asked.

Short forms of the cases R8 to R11 of `make bench-limits`.
"""

import signal

from embedfleet_schema.store.spaces import paused
from plugins.api_fleets import BAD_KEY, BAD_MODEL, MODEL, NAME, wrong_rows
from plugins.failpoints import stopped
from plugins.fleets import ask
from plugins.worker_processes import eventually

TOKENS = 2_400_000.0
ROOMY = {"batch_tokens_api": 1_000}
TINY = {"batch_tokens_api": 64}
FAULTS = [
    *("limited", "error", "stall", "reset", "drip", "truncated", "html", "floats", "quarter"),
]
HELD_BY = """
SELECT sha256(convert_to(t.content, 'UTF8')) FROM embedfleet.batch AS b
JOIN embedfleet.worker AS w ON w.id = b.owner
JOIN embedfleet.{texts} AS t ON t.id = ANY (b.texts)
WHERE b.state = 'leased' AND w.pid = %s
"""
STORED = """
SELECT sha256(convert_to(t.content, 'UTF8'))
FROM embedfleet.{vectors} AS v
JOIN embedfleet.{texts} AS t ON t.id = v.text_id
"""
END_LEASES = """
UPDATE embedfleet.batch AS b SET lease_until = now() FROM embedfleet.worker AS w
WHERE w.id = b.owner AND b.state = 'leased' AND w.pid = %s
"""


def assert_all_is_there(api, count):
    docs = api.fleet.collection("docs")
    found = docs.audit()
    assert (count, count, 0, 0) == (found.texts, found.stored, found.missing, found.extra)
    assert ([], 0) == (docs.failures(), wrong_rows(docs, api.fleet))


def under_way(api, worker):
    """How many texts a stopped worker had sent, and not stored."""
    info = api.fleet.collection("docs").info
    tables = {"texts": info.texts, "vectors": info.vectors}
    sent = api.counts()["admitted"]
    # It may have stored answers until it stood still; each request takes equally long.
    eventually(lambda: stopped(worker) and api.counts()["answered"] >= sent)
    held = {bytes(row[0]) for row in ask(api.fleet, HELD_BY.format(**tables), worker.pid)}
    stored = {bytes(row[0]) for row in ask(api.fleet, STORED.format(**tables))}
    return api.provider.paid(held - stored)[1]


def test_a_killed_worker_and_an_empty_redis_cost_only_what_was_under_way(api_fleet, worker_process):
    """R8."""
    limits = {"tokens": TOKENS}
    api = api_fleet(ROOMY, quota="bucket:1", limits=limits, latency_s=0.2, tell_limits=False)
    api.tell_limits(**limits)
    # None runs out by itself, however busy the machine is.
    options = {**api.variables(), "slots": 4, "lease_seconds": "120"}
    workers = [worker_process(**options) for _ in range(2)]
    eventually(lambda: len(api.fleet.workers()) == 2)
    job = api.enqueue(1_200)
    eventually(lambda: job.status.embedded > 200)
    workers[0].signal(signal.SIGSTOP)
    repeatable = under_way(api, workers[0])
    workers[0].kill()
    ask(api.fleet, END_LEASES, workers[0].pid)
    api.forget_limiter()
    worker_process(**options)
    assert 1_200 == job.wait(timeout_s=60).embedded
    counts = api.counts()
    assert counts["repeated_texts"] <= repeatable
    assert counts["limited"] <= 2
    assert_all_is_there(api, 1_200)


def test_an_account_without_money_stops_the_fleet_until_somebody_resumes_it(
    api_fleet, worker_process
):
    """R9."""
    api = api_fleet(TINY, latency_s=0.2, limits={"requests": 2_400, "tokens": 1e9})
    api.tell_limits(requests=2_400)
    for _ in range(2):
        worker_process(**api.variables(), slots=4)
    eventually(lambda: len(api.fleet.workers()) == 2)
    job = api.enqueue(450, words=20)
    eventually(lambda: job.status.embedded > 30)
    before = api.provider.set(stopped="insufficient_quota")["models"][NAME]["received"]
    eventually(lambda: paused(api.fleet.db))
    eventually(lambda: sum(queue.leased for queue in api.fleet.queues()) == 0)
    # Each slot hears it with its own next request at the latest.
    assert 1 <= api.counts()["received"] - before <= 8
    assert [("insufficient_quota", MODEL)] == [
        (space.code, space.model) for space in paused(api.fleet.db)
    ]
    assert 0 == job.status.failed
    api.provider.set(stopped="")
    assert api.fleet.resume(MODEL)
    assert (450, 0) == ((status := job.wait(timeout_s=60)).embedded, status.failed)
    assert_all_is_there(api, 450)


def test_every_fault_of_a_provider_costs_calls_and_nothing_else(api_fleet):
    """R10."""
    script = [each for fault in FAULTS for each in (fault, "", "", "", "")]
    api = api_fleet(
        {**TINY, "api_timeout_s": 5.0},
        limits={"requests": 6_000, "tokens": 1e9},
        script=script,
        stall_s=60,
        drip_s=60,
    )
    api.tell_limits(requests=6_000)
    job = api.enqueue(180, words=20)
    with api.working():
        assert (180, 0) == ((status := job.wait(timeout_s=60)).embedded, status.failed)
    counts = api.counts()
    assert dict.fromkeys(FAULTS, 1) == api.provider.account()["faults"]
    # Those that would have taken a minute were given up when their time was over.
    assert 2 == counts["abandoned"]
    # A request that met several in a row while nobody else asked cost a harmless text as well.
    assert 60 <= counts["answered"] <= 60 + counts["abandoned"]
    assert counts["received"] <= 1.6 * counts["answered"]
    assert_all_is_there(api, 180)


def test_a_space_whose_key_is_bad_does_not_hold_up_another(api_fleet, worker_process):
    """R11. Its batches stand first in the queue."""
    api = api_fleet(TINY, refused_keys=[BAD_KEY], limits={"requests": 2_400, "tokens": 1e9})
    api.tell_limits(requests=2_400)
    refused = api.enqueue(300, words=20, model=BAD_MODEL, name="refused")
    job = api.enqueue(300, words=20)
    for _ in range(2):
        worker_process(**api.variables(), slots=4)
    assert (300, 0) == ((status := job.wait(timeout_s=60)).embedded, status.failed)
    bad = api.counts(BAD_MODEL.partition("/")[2])
    assert (0, True) == (bad["answered"], 1 <= bad["refused"] <= 8)
    assert [("invalid_api_key", BAD_MODEL)] == [
        (space.code, space.model) for space in paused(api.fleet.db)
    ]
    assert (300, 0) == (refused.status.queued, refused.status.failed)
    assert_all_is_there(api, 300)
    refused.cancel()
