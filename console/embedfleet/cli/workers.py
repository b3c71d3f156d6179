"""`worker`: embed what waits in a queue."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from embedfleet.cli.output import note, print_json
from embedfleet.cli.parameters import Json
from embedfleet.cli.session import session
from embedfleet_schema.amounts import quantity
from embedfleet_schema.types import Queue

if TYPE_CHECKING:
    from embedfleet_schema.settings import Settings

OfQueue = Annotated[
    Queue, typer.Option(help="The queue to take batches from. It also decides the device.")
]
Concurrency = Annotated[
    int | None, typer.Option(min=1, max=1_024, help="Batches at the same time.")
]
Pool = Annotated[Literal["prefork", "threads", "solo"] | None, typer.Option(help="Celery's pool.")]


def add_to(app: typer.Typer) -> None:
    app.command()(worker)


def worker(
    context: typer.Context,
    queue: OfQueue = "cpu",
    concurrency: Concurrency = None,
    pool: Pool = None,
    json: Json = False,
) -> None:
    """Run a worker: embed what waits in a queue, until Ctrl-C or SIGTERM.

    A worker that is told to stop finishes its batches first.
    """
    from embedfleet_workers import launch

    settings = session(context).ready()
    _check(settings)
    chosen = launch.pool_for(queue, concurrency, launch.cpu_processes(settings))
    if pool is not None and pool != chosen.pool:
        slots = 1 if pool == "solo" else chosen.concurrency
        chosen = replace(chosen, pool=pool, concurrency=slots, why="as you asked")
    note(
        f"queue {queue}: {quantity(chosen.concurrency, 'slot')}, pool {chosen.pool} ({chosen.why})"
    )
    if json:
        print_json({"queue": queue, **asdict(chosen), "pid": os.getpid()}, indent=None)
        sys.stdout.flush()  # the process stays, and who reads this wants it now
    # The application reads its settings where Celery imports it, in each process of a pool.
    os.environ["EMBEDFLEET_DATA"] = str(settings.data)
    launch.run(queue, chosen, log_level=settings.log_level)


def _check(settings: Settings) -> None:
    """Fail now and in one line: no tables, where a worker would go on trying, or old versions."""
    from embedfleet_schema.database import Database
    from embedfleet_workers.versions import check_packages, check_server

    check_packages()
    database = Database(settings.database, max_connections=1)
    try:
        with database.transaction() as conn:
            check_server(conn)
    finally:
        database.close()
