"""How to start a worker on this machine: Celery's pool and concurrency for a queue."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from embedfleet_schema.types import Queue
from embedfleet_workers.cores import cores
from embedfleet_workers.embedders.loading import check_device

if TYPE_CHECKING:
    from embedfleet_schema.settings import Settings

Pool = Literal["prefork", "threads", "solo"]

# A GPU is kept busy by three: one fetches and tokenizes, one computes, one writes.
CUDA_SLOTS = 3
# Calls of an API wait on the network; each slot holds one batch in memory. One of them takes
# interactive batches alone.
API_SLOTS = 17


@dataclass(frozen=True, slots=True)
class WorkerPool:
    """Celery's pool, how many slots it has, and why."""

    pool: Pool
    concurrency: int
    why: str


def cpu_processes(settings: Settings) -> int:
    """How many processes embed on this machine's CPU: as many as `embedfleet tune` found best, or
    one for each core.
    """
    from embedfleet_workers.embedders.engine import wanted_of
    from embedfleet_workers.embedders.tuning import FILE, worker_processes

    return worker_processes(settings.data / FILE, wanted_of(settings)) or cores()


def pool_for(queue: Queue, concurrency: int | None, processes: int) -> WorkerPool:
    """The pool for `queue`; a given `concurrency` wins over the machine's, which on a CPU are
    so many `processes`.

    Raises:
        WorkerStartFailed: the cuda queue on a machine whose torch finds no GPU.
    """
    if queue == "cuda":
        check_device("cuda")
        return WorkerPool(
            "threads", concurrency or CUDA_SLOTS, "one process per GPU, batches overlap"
        )
    if queue == "api":
        return WorkerPool(
            "threads", concurrency or API_SLOTS, "most time is spent waiting for the network"
        )
    count = concurrency or processes
    if count == 1:
        return WorkerPool("solo", 1, "one batch at a time")
    return WorkerPool("prefork", count, "a process for each, with its share of the cores")


def arguments(queue: Queue, pool: WorkerPool, *, log_level: str) -> list[str]:
    """The command line for `Celery.worker_main`."""
    return [
        "worker",
        f"--queues={queue}",
        f"--pool={pool.pool}",
        f"--concurrency={pool.concurrency}",
        f"--loglevel={log_level}",
        "--without-gossip",
        "--without-mingle",
        # Several workers may run on one machine.
        f"--hostname=embedfleet-{queue}-{os.getpid()}@%h",
    ]


def run(queue: Queue, pool: WorkerPool, *, log_level: str) -> None:
    """Run a worker in this process until it is told to stop (SIGTERM: it finishes its batches)."""
    from celery.worker import state

    from embedfleet_workers.celery_app import app

    app.worker_main(arguments(queue, pool, log_level=log_level))
    # Celery's own command ends with it, its function does not tell.
    if state.should_stop:
        raise SystemExit(int(state.should_stop))
