"""The Celery side of a worker: the application, its one task, and the process signals."""

from __future__ import annotations

import logging
from typing import Any

from celery import signals
from celery.concurrency.prefork import TaskPool as ProcessPool

from embedfleet_schema.broker import WORKER_SILENCE_S, Doorbell, celery_app
from embedfleet_schema.database import Database
from embedfleet_schema.database_errors import DatabaseUnreachable
from embedfleet_schema.errors import EmbedfleetError, WorkerStartFailed
from embedfleet_schema.logs import write_log
from embedfleet_schema.rings import TASK
from embedfleet_schema.settings import load_settings
from embedfleet_schema.types import QUEUES, Queue
from embedfleet_workers.monitoring.process import Monitoring
from embedfleet_workers.newer_tables import NewerTables
from embedfleet_workers.pipeline import Outcome
from embedfleet_workers.provider_batches.runner import ProviderBatchRunner
from embedfleet_workers.runtime import Launch, Runtime, device_of
from embedfleet_workers.sweeper import Sweeper
from embedfleet_workers.versions import check_packages, check_server
from embedfleet_workers.webhooks.sender import WebhookSender

log = logging.getLogger(__name__)

# A worker's blocking pop lasts one second; this is what else may hold up an answer.
SOCKET_TIMEOUT_S = 15.0

settings = load_settings()
app = celery_app(settings.redis, socket_timeout_s=SOCKET_TIMEOUT_S)
doorbell = Doorbell(app, silence_s=WORKER_SILENCE_S)


class _Process:
    """What this process has running; a forked child starts from its parent's launch."""

    launch: Launch | None = None
    forks = False
    runtime: Runtime | None = None
    sweeper: Sweeper | None = None
    webhooks: WebhookSender | None = None
    provider_batches: ProviderBatchRunner | None = None
    monitoring: Monitoring | None = None
    newer_tables = NewerTables()


@app.task(name=TASK, ignore_result=True)  # type: ignore[untyped-decorator]
def embed(queue: Queue) -> None:
    """Answer one ring of `queue`, and ring on where there may be more to do."""
    if queue not in QUEUES or _Process.runtime is None:
        log.error("a message for queue %.20r was not handled", queue)
        return
    match _Process.runtime.answer(queue):
        case Outcome.IDLE | Outcome.PAUSED | Outcome.UNREACHABLE:
            return
        case _:
            if not doorbell.ring(queue) and _Process.sweeper is not None:
                _Process.sweeper.hurry()


# A message with the name of one of Celery's own tasks (a chord, a clean-up) is nobody's here.
for built_in in [name for name in app.tasks if name != TASK]:
    app.tasks.unregister(built_in)


@signals.setup_logging.connect  # type: ignore[untyped-decorator]
def set_up_log(loglevel: int | str | None = None, logfile: str | None = None, **_: object) -> None:
    """In Celery's place, for all of the worker's processes."""
    level = settings.log_level if loglevel is None else loglevel
    write_log(level, settings.log_format, file=logfile)


@signals.worker_init.connect  # type: ignore[untyped-decorator]
def listen_to_rings_only(sender: Any, **_: object) -> None:  # noqa: ANN401 - Celery's worker object
    """Workers need not hear of each other, and what they would hear anybody may have sent."""
    sender.options |= {"without_gossip": True, "without_mingle": True}


@signals.worker_init.connect  # type: ignore[untyped-decorator]
def check_versions(**_: object) -> None:
    """Do not start with what is too old.

    By SystemExit, because Celery logs any Exception of a signal's receiver and goes on. A database
    that is away is waited for, as it is later on.
    """
    try:
        check_packages()
        _Process.monitoring = Monitoring(settings)
        database = Database(settings.database)
        with database.connect() as conn:
            check_server(conn)
        database.check_known()
    except DatabaseUnreachable as error:
        log.warning("%s", error)
    except EmbedfleetError as error:
        raise SystemExit(f"error: {error}") from None


@signals.celeryd_after_setup.connect  # type: ignore[untyped-decorator]
def note_launch(instance: Any, **_: object) -> None:  # noqa: ANN401 - Celery's worker object
    """Remember how Celery was started: children of the pool inherit it."""
    _Process.forks = prefork = issubclass(instance.pool_cls, ProcessPool)
    concurrency = int(instance.concurrency or 1)
    _Process.launch = Launch(
        queues=tuple(name for name in QUEUES if name in instance.app.amqp.queues.consume_from),
        processes=concurrency if prefork else 1,
        slots=1 if prefork else concurrency,
    )


@signals.worker_ready.connect  # type: ignore[untyped-decorator]
def start_main(**_: object) -> None:
    """In the main process: sweeper, webhooks, provider batches, and the runtime where slots are
    threads.
    """
    _Process.newer_tables.watch()
    if _Process.monitoring is not None:
        _Process.monitoring.serve()
    if not _Process.forks:
        _start_runtime()
    _Process.sweeper = Sweeper(
        Database(settings.database, max_connections=2, lock_wait_s=settings.lock_wait_seconds),
        doorbell,
        every_s=settings.sweep_seconds,
        newer_tables=_Process.newer_tables.tell,
        retention_days=settings.job_retention_days,
    )
    _Process.sweeper.start()
    _Process.webhooks = WebhookSender(settings)
    _Process.webhooks.start()
    if _Process.launch is not None and "api" in _Process.launch.queues:
        _Process.provider_batches = ProviderBatchRunner(settings, doorbell.ring)
        _Process.provider_batches.start()


@signals.worker_process_init.connect  # type: ignore[untyped-decorator]
def start_child(**_: object) -> None:
    """In each child of a process pool: the sweeper stays with the parent.

    Celery's solo pool sends this signal too, from the main process and before all else.
    """
    if _Process.forks:
        _Process.sweeper = _Process.webhooks = _Process.provider_batches = None
        if _Process.monitoring is not None:
            _Process.monitoring.is_child()
        _start_runtime()


@signals.worker_shutting_down.connect  # type: ignore[untyped-decorator]
def leave(**_: object) -> None:
    """A warm shutdown begins: slots of this process take no further batch."""
    if _Process.runtime is not None:
        _Process.runtime.leave()


@signals.worker_process_shutdown.connect  # type: ignore[untyped-decorator]
@signals.worker_shutdown.connect  # type: ignore[untyped-decorator]
def stop(**_: object) -> None:
    """The last batch is through: sign off."""
    if _Process.sweeper is not None:
        _Process.sweeper.stop()
        _Process.sweeper = None
    if _Process.webhooks is not None:
        _Process.webhooks.stop()
        _Process.webhooks = None
    if _Process.provider_batches is not None:
        _Process.provider_batches.stop()
        _Process.provider_batches = None
    if _Process.runtime is not None:
        _Process.runtime.stop()
        _Process.runtime = None
    if _Process.monitoring is not None:
        _Process.monitoring.stop()
        _Process.monitoring = None


def _start_runtime() -> None:
    if _Process.launch is None:
        raise WorkerStartFailed(reason="Celery did not say how it was set up")
    if _Process.monitoring is not None:
        _Process.monitoring.watch(_Process.launch.queues, device_of(_Process.launch.queues[0]))
    _Process.runtime = Runtime(
        settings, _Process.launch, doorbell.ring, newer_tables=_Process.newer_tables.tell
    )
    _Process.runtime.start()
