"""`doctor`: what is reachable, in which version, and what to do about the rest."""

from __future__ import annotations

import socket
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.output import note, print_json, say
from embedfleet.cli.parameters import Json, Yes
from embedfleet.cli.session import session
from embedfleet_schema.amounts import quantity

if TYPE_CHECKING:
    from embedfleet_schema.settings import Settings

OnlyWorker = Annotated[
    bool, typer.Option("--worker", help="Only check whether a worker of this machine is alive.")
]
Fix = Annotated[
    bool,
    typer.Option(
        "--fix",
        help="Ask, then mend what is safe to mend: build missing indexes, forget dead workers.",
    ),
]


def add_to(app: typer.Typer) -> None:
    app.command()(doctor)


def doctor(
    context: typer.Context,
    *,
    worker: OnlyWorker = False,
    fix: Fix = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Check servers, tables, packages, models and workers.

    It changes and starts nothing without --fix. The exit code is 1 if something is broken.
    """
    settings = session(context).settings()
    if worker:
        _ask_worker(settings, json=json)
        return
    from embedfleet.cli.diagnosis import examine
    from embedfleet.cli.mending import mend

    findings = list(examine(settings))
    if fix and mend(settings, findings, yes=yes):
        findings = list(examine(settings))
    if json:
        print_json(findings)
    else:
        for finding in findings:
            code = f" [{finding.code}]" if finding.code else ""
            say(f"{finding.level:7} {finding.subject:14} {finding.found}{code}")
            if finding.advice:
                say(f"{'':22} -> {finding.advice}")
    levels = Counter(finding.level for finding in findings)
    if levels["broken"]:
        note(f"{levels['broken']} broken, {quantity(levels['warning'], 'warning')}")
        raise typer.Exit(1)


def _ask_worker(settings: Settings, *, json: bool) -> None:
    """The health check of a container: exit code 0 while its worker's heartbeat is fresh."""
    from embedfleet_schema.database import Database
    from embedfleet_schema.store.workers import recent

    host = socket.gethostname()
    database = Database(settings.database, max_connections=1)
    try:
        listed = recent(database)
    finally:
        database.close()
    ours = [worker for worker in listed if worker.hostname == host]
    silent_s = min((worker.silent_s for worker in ours), default=None)
    healthy = any(worker.is_alive for worker in ours)
    if json:
        print_json({"hostname": host, "silent_s": silent_s, "healthy": healthy})
    elif silent_s is None:
        say(f"no worker of {host} is known")
    else:
        say(f"last heartbeat of a worker of {host}: {silent_s:.0f} s ago")
    if not healthy:
        raise typer.Exit(1)
