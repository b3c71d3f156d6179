"""`exporter`: what only the database and Redis know, as metrics."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.output import note, print_json
from embedfleet.cli.parameters import Json
from embedfleet.cli.session import session

if TYPE_CHECKING:
    from types import FrameType

PORT = 9465

Port = Annotated[int, typer.Option(min=1, max=65_535, help="Port to serve at.")]
Host = Annotated[
    str | None, typer.Option(help="Address to serve at: EMBEDFLEET_METRICS_HOST by default.")
]
Once = Annotated[bool, typer.Option("--once", help="Print the metrics once, and serve none.")]


def add_to(app: typer.Typer) -> None:
    app.command()(exporter)


def exporter(
    context: typer.Context,
    port: Port = PORT,
    host: Host = None,
    once: Once = False,
    json: Json = False,
) -> None:
    """Serve metrics of the whole fleet for Prometheus, until Ctrl-C or SIGTERM.

    Run one for each database. It logs in with the rights of embedfleet_monitor.
    """
    from embedfleet.exporter import page, samples, serving
    from embedfleet_schema.logs import write_log

    settings = session(context).ready(looks_only=True)
    if once and json:
        print_json([sample.as_json() for sample in samples(settings)])
        return
    if once:
        sys.stdout.write(page(settings))
        return
    write_log(settings.log_level, settings.log_format)
    where = host or settings.metrics_host
    ended = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        ended.set()

    with serving(settings, where, port):
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, end)
        note(f"metrics: http://{where}:{port}/metrics")
        if json:
            print_json({"host": where, "port": port, "pid": os.getpid()}, indent=None)
            sys.stdout.flush()
        ended.wait()
