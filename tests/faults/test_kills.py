"""Workers that are killed and frozen by the dozen: F1, F2, F3, F10 of docs/reliability.md."""

import random
import signal
import time
from dataclasses import dataclass

import pytest

from plugins.failpoints import Orphans, alive, documents, leased, repeated, stopped
from plugins.fleets import ask
from plugins.worker_processes import eventually

PLACES = ("after_claim", "after_embed", "before_commit", "after_commit_before_ack")
CLAIMED_AGAIN_S = 25.0
SHUTDOWN_S = 5.0

nightly = (pytest.mark.nightly, pytest.mark.timeout(600))


@dataclass(frozen=True)
class Siege:
    """`kills` 0: for as long as the job runs."""

    workers: int
    chunks: int
    kills: int
    every_s: float
    lease_s: float
    latency_s: float


SHORT = Siege(workers=2, chunks=1_500, kills=2, every_s=1.0, lease_s=10, latency_s=0.03)
LONG = Siege(workers=4, chunks=20_000, kills=0, every_s=3.0, lease_s=10, latency_s=0.15)


@pytest.mark.parametrize("siege", [SHORT, pytest.param(LONG, marks=nightly)], ids=("short", "long"))
def test_a_job_completes_while_its_workers_are_killed_one_after_the_other(
    fleet, worker_process, seed, report, siege
):
    rng = random.Random(seed)
    docs = fleet.collection("docs", model="fake/16")

    def worker():
        return worker_process(
            fake_faults=f"latency={siege.latency_s}",
            lease_seconds=str(siege.lease_s),
            heartbeat_seconds=str(siege.lease_s / 5),
        )

    workers = [worker() for _ in range(siege.workers)]
    eventually(lambda: len(alive(fleet)) == siege.workers)
    job = docs.enqueue(documents(siege.chunks))
    eventually(lambda: leased(fleet) > 0)
    orphans, kills, began = Orphans(fleet), 0, time.monotonic()
    while not job.status.finished and (not siege.kills or kills < siege.kills):
        index = rng.randrange(siege.workers)
        orphans.kill(workers[index])
        kills += 1
        workers[index] = worker()
        orphans.watch(siege.every_s)
    orphans.settle()
    status = job.wait(timeout_s=120)
    report(
        kills=kills,
        orphans=len(orphans.waited),
        longest_wait_s=max(orphans.waited, default=0.0),
        embedded_again=repeated(fleet),
        seconds=time.monotonic() - began,
    )
    assert (siege.chunks, 0) == (status.embedded, status.failed)
    assert max(orphans.waited, default=0.0) <= CLAIMED_AGAIN_S
    assert repeated(fleet) <= kills


@pytest.mark.nightly
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("times", "lease_s"), [(50, 10)])
def test_workers_that_stop_between_taking_a_message_and_acking_it_lose_nothing(
    fleet, worker_process, report, times, lease_s
):
    docs = fleet.collection("docs", model="fake/16")
    job = docs.enqueue(documents(times * 12))
    for first in range(0, times, len(PLACES)):
        group = [
            worker_process(failpoints=f"{place}=stop:#1", lease_seconds=str(lease_s))
            for place in PLACES[: times - first]
        ]
        for worker in group:
            eventually(lambda worker=worker: stopped(worker))
            worker.kill()
    worker_process()
    status = job.wait(timeout_s=120)
    report(stopped_and_killed=times, embedded=status.embedded, failed=status.failed)
    assert (times * 12, 0) == (status.embedded, status.failed)


def fingerprint(fleet, docs) -> list[str]:
    """A digest of every row that a commit could change."""
    info = docs.info
    tables = ("batch", "failure", info.documents, info.chunks, info.vectors)
    digest = (
        "SELECT md5(coalesce(string_agg(t::text, '' ORDER BY t::text), '')) FROM embedfleet.{} t"
    )
    return [ask(fleet, digest.format(table))[0][0] for table in tables]


@pytest.mark.nightly
@pytest.mark.timeout(300)
def test_fifty_late_commits_of_a_frozen_worker_are_refused_and_change_no_row(
    fleet, worker_process, report
):
    slots, lease_s = 50, 10
    docs = fleet.collection("docs", model="fake/16")
    frozen = worker_process(
        slots=slots,
        fake_faults="latency=8",
        lease_seconds=str(lease_s),
        heartbeat_seconds="2",
    )
    eventually(lambda: alive(fleet))
    job = docs.enqueue(documents(slots * 11))
    eventually(lambda: leased(fleet) == slots)
    frozen.signal(signal.SIGSTOP)
    began = time.monotonic()
    helper = worker_process(slots=2)
    assert job.wait(timeout_s=90).failed == 0
    helper.signal(signal.SIGTERM)
    helper.process.wait(30)
    time.sleep(max(0.0, began + 3 * lease_s - time.monotonic()))
    before = fingerprint(fleet, docs)
    frozen.signal(signal.SIGCONT)
    eventually(lambda: frozen.log.read_text().count(": lost, ") == slots)
    report(late_commits=slots, refused=frozen.log.read_text().count(": lost, "))
    assert before == fingerprint(fleet, docs)


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_thirty_workers_told_to_leave_under_load_leave_nothing_behind(
    fleet, worker_process, report
):
    rounds, together, latency_s = 10, 3, 0.3
    docs = fleet.collection("docs", model="fake/16")
    docs.enqueue(documents(12_000))
    longest = 0.0
    for _ in range(rounds):
        workers = [
            worker_process(slots=2, fake_faults=f"latency={latency_s}") for _ in range(together)
        ]
        eventually(lambda: sum(worker.leased > 0 for worker in fleet.workers()) == together)
        told = time.monotonic()
        for worker in workers:
            worker.signal(signal.SIGTERM)
        for worker in workers:
            assert worker.process.wait(30) == 0
        longest = max(longest, time.monotonic() - told)
        assert 0 == leased(fleet)
    report(told=rounds * together, longest_exit_s=longest, embedded_again=repeated(fleet))
    assert longest <= latency_s + SHUTDOWN_S
    assert 0 == repeated(fleet)
