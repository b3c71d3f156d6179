"""The fleet at a glance: jobs, queues and workers, as tables, as JSON, as a line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.progress_bar import ProgressBar
from rich.text import Text

from embedfleet.cli.listing import Listing
from embedfleet.cli.output import one_line, status_json, table
from embedfleet.fleet import Fleet
from embedfleet.limits import learnt
from embedfleet.progress import describe, duration, name
from embedfleet_schema.amounts import quantity
from embedfleet_schema.store import lanes, syncs
from embedfleet_schema.store.jobs import JobStatus
from embedfleet_schema.store.lanes import LaneTimes
from embedfleet_schema.store.spaces import PausedSpace
from embedfleet_schema.store.syncs import SyncInfo
from embedfleet_schema.store.workers import QueueInfo, WorkerInfo
from embedfleet_schema.types import serving

BAR_COLUMNS = 20
# Below this a tenth of a second is worth a digit.
LONG_S = 10.0


@dataclass(frozen=True, slots=True)
class Overview:
    """What was seen at one moment."""

    jobs: list[JobStatus]
    queues: list[QueueInfo]
    lanes: list[LaneTimes]
    workers: list[WorkerInfo]
    paused: list[PausedSpace]
    limits: list[str]
    syncs: list[SyncInfo]

    @classmethod
    def of(cls, fleet: Fleet, *, limit: int = 10) -> Overview:
        """Look: the jobs that run and the newest of the others."""
        queues = fleet.queues()
        # Redis is asked only where something waits for a provider.
        calls = any(queue.queue == "api" for queue in queues)
        limits = learnt(fleet.db, fleet.settings.redis) if calls else []
        return cls(
            fleet.statuses(limit=limit),
            queues,
            lanes.times(fleet.db),
            fleet.workers(),
            fleet.paused(),
            limits,
            syncs.list_all(fleet.db),
        )

    @property
    def running(self) -> list[JobStatus]:
        return [job for job in self.jobs if not job.finished]

    @property
    def alive(self) -> list[WorkerInfo]:
        return [worker for worker in self.workers if worker.is_alive]

    @property
    def chunks_per_second(self) -> float:
        return sum(job.chunks_per_second for job in self.running)

    def as_json(self) -> dict[str, Any]:
        return {
            "jobs": [status_json(job) for job in self.jobs],
            "queues": [asdict(queue) for queue in self.queues],
            "lanes": [asdict(lane) for lane in self.lanes],
            "workers": [_as_json(worker) for worker in self.workers],
            "paused": [asdict(space) for space in self.paused],
            "limits": self.limits,
            "syncs": [sync_json(sync) for sync in self.syncs],
        }

    def lines(self) -> Iterator[str]:
        """What runs, for where a live table cannot be drawn."""
        workers = quantity(len(self.alive), "worker")
        yield from (_paused(space) for space in self.paused)
        yield from map(one_line, self.limits)
        if not self.running:
            yield f"no job runs, {workers}"
        for sync in self.syncs:
            if sync.problem is not None:
                yield one_line(f"the sync of {sync.name} is broken: {sync.problem}")
            elif sync.behind:
                behind = f"{quantity(sync.behind, 'row')} behind"
                yield f"the sync of {sync.name}: {behind}, for {duration(sync.behind_seconds)}"
        for job in self.running:
            yield f"{name(job)}: {describe(job)}, {workers}"


def tables(overview: Overview, *, bars: bool = False) -> Iterator[Listing | Text]:
    """What there is to see; sections without rows say so."""
    for space in overview.paused:
        yield Text(_paused(space), style="bold")
        yield Text("")
    for limit in overview.limits:
        yield Text(one_line(limit))
        yield Text("")
    yield _jobs(overview, bars=bars) if overview.jobs else Text("no jobs yet")
    yield Text("")
    yield _queues(overview) if overview.queues else Text("no batches wait")
    yield Text("")
    if overview.lanes:
        yield _lanes(overview)
    if overview.syncs:
        yield syncs_table(overview.syncs)
        yield Text("")
    yield (
        _workers(overview)
        if overview.workers
        else Text("no workers. Start one: embedfleet worker --queue cpu")
    )


def _paused(space: PausedSpace) -> str:
    return one_line(f"{space}. Go on with: embedfleet resume {space.model}")


def _jobs(overview: Overview, *, bars: bool) -> Listing:
    columns = ["#job", "collection", "lane", "state", "#embedded", "#total", "#failed", "#rejected"]
    columns += ["#chunks/s", "left"]
    rows = [_job(job) for job in overview.jobs]
    if bars:
        columns.insert(4, "")
        for job, row in zip(overview.jobs, rows, strict=True):
            row.insert(4, _bar(job))
    return table([*columns, "waits for"], rows, title="Jobs")


def _job(job: JobStatus) -> list[Any]:
    return [
        str(job.id),
        job.collection,
        job.lane,
        job.state,
        f"{job.embedded:,}",
        f"{job.total:,}",
        f"{job.failed:,}",
        f"{job.rejected:,}",
        "" if job.finished else f"{job.chunks_per_second:,.1f}",
        "" if job.eta_seconds is None else duration(job.eta_seconds),
        "" if job.finished and job.state != "interrupted" else job.reason or "",
    ]


def _bar(job: JobStatus) -> ProgressBar:
    if not job.total:
        return ProgressBar(total=1, completed=int(job.finished), width=BAR_COLUMNS)
    return ProgressBar(total=job.total, completed=job.embedded + job.failed, width=BAR_COLUMNS)


def _queues(overview: Overview) -> Listing:
    columns = ["queue", "#ready", "#deferred", "#held", "#running", "#tokens", "workers"]
    return table(columns, [_queue(queue, overview) for queue in overview.queues], title="Queues")


def _queue(queue: QueueInfo, overview: Overview) -> list[str]:
    needed = serving(queue.queue, queue.delivery)
    workers = sum(needed in worker.queues for worker in overview.alive)
    counts = (queue.ready, queue.deferred, queue.held, queue.leased, queue.tokens)
    start = f"none. Start one: embedfleet worker --queue {needed}"
    called = queue.queue if queue.delivery == "direct" else f"{queue.queue}, provider batches"
    return [called, *(f"{count:,}" for count in counts), str(workers) if workers else start]


def _lanes(overview: Overview) -> Listing:
    """How long jobs took until all of their texts were searchable."""
    rows = [
        [each.lane, f"{each.jobs:,}", _seconds(each.p50_s), _seconds(each.p95_s)]
        for each in overview.lanes
    ]
    return table(["lane", "#jobs", "median", "95 of 100"], rows, title="Until searchable")


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < LONG_S else duration(seconds)


def _workers(overview: Overview) -> Listing:
    columns = ["worker", "queues", "device", "#slots", "#busy", "#chunks", "up", "heard"]
    return table(columns, [_worker(worker) for worker in overview.workers], title="Workers")


def syncs_table(found: Sequence[SyncInfo]) -> Listing:
    columns = ["collection", "table", "state", "#rows behind", "behind for", "problem"]
    return table(columns, [_sync(each) for each in found], title="Syncs")


def _sync(found: SyncInfo) -> list[str]:
    behind = duration(found.behind_seconds) if found.behind else ""
    return [
        found.name, found.table, found.state, f"{found.behind:,}", behind, found.problem or ""
    ]  # fmt: skip


def sync_json(found: SyncInfo) -> dict[str, Any]:
    """A sync as `--json` shows it."""
    shown = (
        "name", "table", "state", "key", "text", "metadata", "created_at", "paused_at",
        "backfilled", "backfilled_at", "behind", "behind_seconds", "verified_at", "differences",
        "problem",
    )  # fmt: skip
    return {name: getattr(found, name) for name in shown}


def _as_json(worker: WorkerInfo) -> dict[str, Any]:
    found = asdict(worker)
    found["alive"] = found.pop("is_alive")
    return found


def _worker(worker: WorkerInfo) -> list[str]:
    heard = f"{duration(worker.silent_s)} ago"
    return [
        f"{worker.hostname}:{worker.pid}",
        " ".join(worker.queues),
        worker.device,
        str(worker.slots),
        str(worker.leased),
        f"{worker.chunks:,}",
        duration((worker.last_seen - worker.started_at).total_seconds() + worker.silent_s),
        heard if worker.is_alive else f"{heard}: silent",
    ]
