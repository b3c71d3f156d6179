"""The embedded stack: `up`, `down`; and the tables of any database: `migrate`."""

from __future__ import annotations

from contextlib import closing, suppress
from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.output import note, print_json, say
from embedfleet.cli.parameters import Json
from embedfleet.cli.session import session
from embedfleet_schema.amounts import quantity

if TYPE_CHECKING:
    from embedfleet_schema.settings import Settings

MOST_WORKERS = 64


def worker_count(given: object) -> int | None:
    """A number, or None for what is best here."""
    if given == "auto":
        return None
    if str(given).isdecimal() and int(str(given)) <= MOST_WORKERS:
        return int(str(given))
    raise typer.BadParameter(f"{given!r} is neither auto nor a number from 0 to {MOST_WORKERS}.")


Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        parser=worker_count,
        metavar="NUMBER|auto",
        help="Also start this many cpu workers; auto: as many as tune found best, or one for each "
        "core.",
    ),
]
Roles = Annotated[
    bool,
    typer.Option(
        "--roles", help="Also set up the roles for owner, producers, workers and searches."
    ),
]
SetDefaults = Annotated[
    bool,
    typer.Option(
        "--set-defaults", help="Let plain SQL get all rows that it asks for from an index."
    ),
]
ShowUrls = Annotated[bool, typer.Option("--show-urls", help="Print the URLs with their passwords.")]


def add_to(app: typer.Typer) -> None:
    app.command()(up)
    app.command()(down)
    app.command()(migrate)


def up(
    context: typer.Context, workers: Workers = 0, show_urls: ShowUrls = False, json: Json = False
) -> None:
    """Start the embedded PostgreSQL and Valkey, and what follows tables, if any are synced. `down`
    stops them.
    """
    from embedfleet.embedded import ready
    from embedfleet.local_sync import start_sync
    from embedfleet.local_workers import living_workers
    from embedfleet.progress import activity, command
    from embedfleet_schema.addresses import redacted
    from embedfleet_schema.database import Database
    from embedfleet_schema.store import syncs
    from embedfleet_workers.launch import cpu_processes

    settings = session(context).settings()
    if workers is None:
        workers = min(cpu_processes(settings), MOST_WORKERS)
    endpoints = ready(settings.data, on_step=note)
    pids: list[int] = []
    with closing(Database(endpoints.database_url, max_connections=1)) as database:
        if workers:
            with activity("waiting for the workers to start"):
                pids = living_workers(database, settings, workers)
        sync = start_sync(settings.data) if syncs.list_all(database) else None
    if json:
        print_json(
            {
                "data": settings.data,
                "database_url": endpoints.database_url,
                "redis_url": endpoints.redis_url,
                "workers": pids,
                "sync": sync,
            }
        )
        return
    shown = str if show_urls else redacted
    say(f"PostgreSQL  {shown(endpoints.database_url)}")
    say(f"Valkey      {shown(endpoints.redis_url)}")
    say(f"data        {settings.data}")
    if pids:
        say(f"workers     {', '.join(map(str, pids))} (logs: {settings.data / 'logs'})")
    if sync is not None:
        say(f"sync        {sync} (log: {settings.data / 'logs' / 'sync.log'})")
    if not settings.uses_embedded_stack:
        note("The environment sets a database URL: other commands use that database, not this one.")
    elif workers or _is_served(settings):
        note(f"Next: {command(settings, 'collection create NAME --model all-MiniLM-L6-v2')}")
    else:
        note(f"Next: {command(settings, 'worker --queue cpu')}, in a terminal of its own")


def _is_served(settings: Settings) -> bool:
    """Whether a worker that was started before is there for queue `cpu`."""
    from embedfleet.fleet import Fleet
    from embedfleet.liveness import has_worker

    with Fleet(settings) as fleet:
        return has_worker(fleet, "cpu")


def down(context: typer.Context, json: Json = False) -> None:
    """Stop the embedded servers and their workers. The data stay."""
    from embedfleet.local_sync import stop_sync
    from embedfleet.local_workers import stop_workers
    from embedfleet.stack import down as stop_servers

    settings = session(context).settings()
    workers = stop_workers(settings.data)
    sync = stop_sync(settings.data)
    servers = stop_servers(settings.data)
    if json:
        print_json({"data": settings.data, "workers": workers, "sync": sync, "servers": servers})
        return
    if workers:
        say(f"stopped {quantity(workers, 'worker')}")
    say("stopped the servers" if servers else f"no server was running in {settings.data}")


def migrate(
    context: typer.Context,
    roles: Roles = False,
    set_defaults: SetDefaults = False,
    json: Json = False,
) -> None:
    """Create or upgrade the tables in the configured database."""
    from embedfleet_schema.database import Database
    from embedfleet_schema.database_errors import DatabaseUnreachable
    from embedfleet_schema.migrate import migrate as upgrade
    from embedfleet_schema.roles import ROLES, set_up_roles
    from embedfleet_schema.store import scan_defaults

    settings = session(context).settings()
    if settings.uses_embedded_stack:
        from embedfleet.stack import up as start

        start(settings.data, on_step=note)
    url = settings.direct_database
    # A pooler that is not up yet holds up no migration.
    with suppress(DatabaseUnreachable):
        Database(settings.database, direct_url=url).check_direct()
    before, after = upgrade(url, lock_wait_s=settings.lock_wait_seconds)
    if roles:
        set_up_roles(url)
    if set_defaults:
        scan_defaults.set_defaults(url)
    _say_unmet(url)
    if json:
        made = {"roles": list(ROLES)} if roles else {}
        print_json({"before": before, "after": after} | made)
        return
    say(_revisions(before, after))
    if roles:
        say(f"set up the roles {', '.join(ROLES)}")
        note("Grant them to your users: GRANT embedfleet_worker TO ...")
    if set_defaults:
        say("new sessions scan an index until the LIMIT is reached")
    elif not scan_defaults.are_set(Database(url)):
        note(
            "Plain SQL gets at most 40 rows from an index. To get all: "
            "embedfleet migrate --set-defaults"
        )


def _say_unmet(url: str) -> None:
    """What is taken for granted of a database, and is not so in this one."""
    from embedfleet_schema.database import Database
    from embedfleet_schema.requirements import unmet

    with Database(url).connect() as conn:
        for problem in unmet(conn):
            note(f"{problem.found}; {problem.advice}")


def _revisions(before: str | None, after: str | None) -> str:
    if before == after:
        return f"the tables are already at revision {after}"
    if before is None:
        return f"created the tables at revision {after}"
    return f"upgraded the tables from revision {before} to {after}"
