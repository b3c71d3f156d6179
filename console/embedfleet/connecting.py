"""The way to a fleet: by arguments, by the environment, or with the embedded stack."""

from __future__ import annotations

from pathlib import Path

from embedfleet import arguments
from embedfleet.fleet import Fleet
from embedfleet_schema.errors import WorkersElsewhere
from embedfleet_schema.settings import load_settings

# Workers that one call may start on this machine.
MOST_WORKERS = 64


def connect(
    database_url: str | None = None,
    redis_url: str | None = None,
    *,
    data: str | Path | None = None,
    workers: int | None = None,
    **settings: object,
) -> Fleet:
    """Open a fleet: by the arguments, else by the environment, else with the embedded stack.

    If the embedded stack is used and does not run, it is started. Other keyword arguments are
    settings by their names (`batch_tokens_cpu=4096`). `database_password` is a function that gives
    the password of PostgreSQL whenever a connection is opened, in any thread, such as a token of a
    cloud's IAM; it wins over the password in a URL.

    Args:
        workers: how many workers of the embedded stack shall run on this machine; running ones
            count. They keep running after this process, until `embedfleet down`.

    Raises:
        BadSettings: there is no such setting, or it cannot have that value.
        WorkersElsewhere: `workers` was given, but your own database is configured.
        WorkerStartFailed: a worker ended at once; the message quotes its log.
        DatabaseUnreachable: the database does not answer (on first use).
        ExtraMissing: no database is configured and the embedded stack is not installed.
    """
    if workers is not None:
        arguments.whole("connect", "workers", workers, most=MOST_WORKERS)
    for name, url in (("database_url", database_url), ("redis_url", redis_url)):
        if isinstance(url, str):
            arguments.text("connect", name, url)
    found = load_settings(database_url=database_url, redis_url=redis_url, data=data, **settings)
    if found.uses_embedded_stack:
        from embedfleet.embedded import ready

        ready(found.data)
    elif workers is not None:
        raise WorkersElsewhere(queue=found.local_queue)
    fleet = Fleet(found)
    if workers is not None:
        from embedfleet.local_workers import living_workers

        living_workers(fleet.db, found, workers, queue=found.local_queue)
    return fleet
