"""The checks of `doctor` that concern workers, and queues that have none or whose workers take
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from embedfleet.cli.finding import Fault, Finding
from embedfleet.progress import command
from embedfleet_schema.amounts import quantity
from embedfleet_schema.database import Database
from embedfleet_schema.settings import Settings
from embedfleet_schema.store import collections, server_health, workers
from embedfleet_schema.store.workers import QueueInfo, WorkerInfo
from embedfleet_schema.types import serving

# A sweep finds idle slots within seconds, and a model is loaded within a minute.
SILENT_S = 120.0


def workers_and_queues(database: Database, settings: Settings) -> Iterator[Finding]:
    listed = workers.recent(database)
    alive = [worker for worker in listed if worker.is_alive]
    queues = workers.queues(database)
    waiting: set[str] = {serving(each.queue, each.delivery) for each in queues}
    if alive:
        yield Finding("ok", "workers", f"{len(alive)} alive")
    yield from _dead(len(listed) - len(alive), settings)
    served = {queue for worker in alive for queue in worker.queues}
    for queue in sorted(waiting - served):
        found = f"no worker serves queue {queue}, where batches wait"
        start = command(settings, f"worker --queue {queue}")
        yield Finding("warning", "workers", found, start, code=Fault.QUEUE_WITHOUT_WORKER)
    yield from _silent(database, queues, served)
    yield from _waiting(alive, waiting)
    if not listed:
        start = command(settings, "worker --queue cpu")
        yield Finding("warning", "workers", "none is known", start, code=Fault.WORKERS_MISSING)
    else:
        yield from _unserved(database, settings, served | waiting)


def _dead(silent: int, settings: Settings) -> Iterator[Finding]:
    if silent:
        found = f"{silent} stopped sending heartbeats within the last hour"
        mend = command(settings, "doctor --fix")
        advice = (
            "check their processes; their batches go to other workers by themselves, and"
            f" {mend} forgets them"
        )
        yield Finding("warning", "workers", found, advice, code=Fault.WORKERS_DEAD)


def _waiting(alive: Sequence[WorkerInfo], queues: set[str]) -> Iterator[Finding]:
    """Why workers claim nothing although there is something."""
    reasons = {each.reason for each in alive if queues.intersection(each.queues)} - {None}
    for reason in sorted(map(str, reasons)):
        yield Finding("warning", "workers", reason, code=Fault.WORKER_WAITS)


def _silent(database: Database, queues: Sequence[QueueInfo], served: set[str]) -> Iterator[Finding]:
    for each in queues:
        if each.delivery != "direct" or each.leased or not each.ready or each.queue not in served:
            continue
        seconds = server_health.ready_seconds(database, each.queue)
        if seconds is not None and seconds > SILENT_S:
            found = (
                f"{quantity(each.ready, 'batch', 'batches')} of queue {each.queue} have been ready"
                f" for {seconds:,.0f} s, and its workers take none"
            )
            advice = (
                "read the workers' log: they cannot load the model, cannot reach Redis, or use"
                " another one; then restart them"
            )
            yield Finding("warning", "workers", found, advice, code=Fault.QUEUE_SILENT)


def _unserved(database: Database, settings: Settings, known: set[str]) -> Iterator[Finding]:
    """Queues of collections without a worker, where nothing waits yet."""
    infos = collections.list_all(database)
    used: set[str] = {info.queue for info in infos}
    for queue in sorted(used - known):
        names = [info.name for info in infos if info.queue == queue]
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        found = f"no worker serves queue {queue}, which {names[0]}{more} will use"
        start = command(settings, f"worker --queue {queue}")
        yield Finding("warning", "workers", found, start, code=Fault.SPACE_WITHOUT_WORKER)
