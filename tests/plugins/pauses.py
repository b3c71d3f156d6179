"""Jobs of many batches, a worker's steps by hand, and a space whose provider refuses."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import embedfleet as ef
from embedfleet.fleet import Fleet
from embedfleet.job import Job
from embedfleet_schema.store.batches import Batches, Lease
from embedfleet_workers.embedders.fake import fake_vectors
from plugins.fleets import ask, batches_of
from plugins.worker_processes import eventually

EMPTY = "the account is empty"
# Only bounds a test that fails.
LIMIT_S = 120.0


def documents(count: int, prefix: str = "d") -> list[ef.Document]:
    """Of five words each, with no word in common."""
    return [
        ef.Document(f"{prefix}{n}", " ".join(f"{prefix}{n}x{i}" for i in range(5)))
        for n in range(count)
    ]


def states(fleet: Fleet, job: Job) -> list[str]:
    """In which states the batches of a job are."""
    found = "SELECT DISTINCT state FROM embedfleet.batch WHERE job_id = %s ORDER BY state"
    return [state for (state,) in ask(fleet, found, job.id)]


def stop(fleet: Fleet, queue: str = "cpu", reason: str = EMPTY) -> Lease:
    """A worker claims a batch, once one is free, and learns that its provider refuses."""
    store = batches_of(fleet)
    found: list[Lease] = []
    eventually(lambda: found or found.extend(filter(None, [store.claim(queue)])) or found)
    (lease,) = found
    store.pause_space(lease, code="insufficient_quota", reason=reason)
    return lease


def commit(store: Batches, lease: Lease) -> None:
    store.commit(lease, fake_vectors(lease.collection.space, lease.texts, "document"))


def beside(work: Callable[[], object]) -> Future[object]:
    """`work` in a thread of its own; `end` says how it went."""
    with_one_thread = ThreadPoolExecutor(1, "beside")
    future = with_one_thread.submit(work)
    with_one_thread.shutdown(wait=False)
    return future


def end(*works: Future[object]) -> None:
    """Wait for them all; raises what one of them raised."""
    for work in works:
        work.result(LIMIT_S)


def until_somebody_waits(fleet: Fleet) -> None:
    """Until a statement of another connection waits for a lock."""
    waiting = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND wait_event_type = 'Lock'"
    )
    eventually(lambda: ask(fleet, waiting))
