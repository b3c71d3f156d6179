"""`sync`: have collections follow tables of the database."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.output import note, print_json, say, terminal
from embedfleet.cli.parameters import Json, Name, optional_unicode, unicode_text
from embedfleet.cli.session import session
from embedfleet_schema.amounts import quantity

if TYPE_CHECKING:
    from types import FrameType

    from embedfleet.sync import Sync
    from embedfleet.sync_verification import Verified
    from embedfleet_schema.store.syncs import SyncInfo

# Between two looks at how far a backfill is.
SHOW_S = 0.5

FromTable = Annotated[
    str,
    typer.Option(
        "--table",
        metavar="TABLE",
        help="The table, as in SQL: public.articles.",
        callback=unicode_text,
    ),
]
Key = Annotated[
    list[str],
    typer.Option(
        metavar="COLUMN,...", help="The columns of its primary key, or of a unique index."
    ),
]
Text = Annotated[list[str], typer.Option(metavar="COLUMN,...", help="The columns to embed.")]
Metadata = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN,...", help="The columns that become metadata."),
]
Model = Annotated[
    str | None,
    typer.Option(
        help="Create the collection with this model, if there is none.", callback=optional_unicode
    ),
]
OnlyCompare = Annotated[
    bool, typer.Option("--dry-run", help="Only say what differs; change nothing.")
]
WithDocuments = Annotated[
    bool, typer.Option("--delete-documents", help="Also delete the documents of the table.")
]


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(help="Have collections follow tables.", rich_markup_mode=None)
    group.command()(create)
    group.command("list")(list_all)
    group.command()(show)
    group.command()(run)
    group.command()(verify)
    group.command()(pause)
    group.command()(resume)
    group.command()(drop)
    app.add_typer(group, name="sync")


def create(
    context: typer.Context,
    name: Name,
    *,
    from_table: FromTable,
    key: Key,
    text: Text,
    metadata: Metadata = None,
    model: Model = None,
    json: Json = False,
) -> None:
    """Follow a table: each row is a document, and stays as the row is.

    It reads the rows that are there. If you stop that, `sync run` goes on with it.
    """
    with session(context).fleet() as fleet:
        sync = fleet.sync(
            name,
            model,
            table=from_table,
            key=_columns(key),
            text=_columns(text),
            metadata=_columns(metadata or []),
        )
        if fleet.settings.uses_embedded_stack:
            from embedfleet.local_sync import start_sync

            start_sync(fleet.settings.data)
        found = _caught_up(sync)
        is_local = fleet.settings.uses_embedded_stack
    if json:
        _print_json(found)
        return
    say(f"{name} follows {found.table}: {quantity(found.backfilled, 'row')} read")
    if not is_local:
        note("Changes are followed while this runs: embedfleet sync run")


def list_all(context: typer.Context, json: Json = False) -> None:
    """List the syncs, and how far behind each is."""
    with session(context).fleet(looks_only=True) as fleet:
        found = [sync.status for sync in fleet.syncs()]
    if json:
        _print_json([*found])
        return
    if not found:
        note("No collection follows a table. Create a sync with: embedfleet sync create")
        return
    from embedfleet.cli.overview import syncs_table

    terminal().print(syncs_table(found))


def show(context: typer.Context, name: Name, json: Json = False) -> None:
    """Show a sync: its columns, and where it stands."""
    with session(context).fleet(looks_only=True) as fleet:
        found = fleet.sync(name).status
    if json:
        _print_json(found)
        return
    for word, value in _facts(found):
        say(f"{word:<12}{value}")


def run(context: typer.Context, json: Json = False) -> None:
    """Follow all synced tables, until Ctrl-C or SIGTERM. Run as many of it as you like."""
    from embedfleet.sync_runner import SyncRunner
    from embedfleet_schema.logs import write_log

    with session(context).fleet() as fleet:
        write_log(fleet.settings.log_level, fleet.settings.log_format)
        runner = SyncRunner(fleet)

        def stop(_number: int, _frame: FrameType | None) -> None:
            runner.stop()

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
        count = len(fleet.syncs())
        note(f"following {quantity(count, 'table')}, and those that are added")
        if json:
            print_json({"pid": os.getpid(), "syncs": count}, indent=None)
            sys.stdout.flush()  # the process stays, and who reads this wants it now
        runner.run()


def verify(
    context: typer.Context, name: Name, dry_run: OnlyCompare = False, json: Json = False
) -> None:
    """Compare a table with its collection, and store again what differs."""
    from embedfleet.progress import activity

    with session(context).fleet() as fleet:
        sync = fleet.sync(name)
        with activity("comparing") as tell:
            found = sync.verify(mend=not dry_run, on_page=_told(tell, "compared"))
    if json:
        print_json(asdict(found) | {"differences": found.differences})
        return
    say(_said(name, found))
    if found.differences and not found.mended:
        note(f"Store them again: embedfleet sync verify {name}")


def pause(context: typer.Context, name: Name, json: Json = False) -> None:
    """Follow no more changes. They are noted, and followed after `sync resume`."""
    with session(context).fleet() as fleet:
        sync = fleet.sync(name)
        sync.pause()
        _say_state(sync, json=json)


def resume(context: typer.Context, name: Name, json: Json = False) -> None:
    """Follow changes again, and those that were noted."""
    with session(context).fleet() as fleet:
        sync = fleet.sync(name)
        sync.resume()
        _say_state(sync, json=json)


def drop(
    context: typer.Context, name: Name, delete_documents: WithDocuments = False, json: Json = False
) -> None:
    """Stop following a table, and remove the triggers from it. The documents stay."""
    with session(context).fleet() as fleet:
        fleet.sync(name).drop(documents=delete_documents)
    if json:
        print_json({"dropped": name, "documents_deleted": delete_documents})
        return
    deleted = ", and its documents are deleted" if delete_documents else "; its documents stay"
    say(f"{name} follows no table any more{deleted}")


def _print_json(found: SyncInfo | list[SyncInfo]) -> None:
    from embedfleet.cli.overview import sync_json

    print_json(list(map(sync_json, found)) if isinstance(found, list) else sync_json(found))


def _caught_up(sync: Sync) -> SyncInfo:
    from embedfleet.progress import activity

    with activity("reading rows") as tell:
        show_again = 0.0

        def on_page(_rows: int) -> None:
            nonlocal show_again
            if time.monotonic() >= show_again:
                show_again = time.monotonic() + SHOW_S
                now = sync.status
                of_all = f" of about {now.estimate:,.0f}" if now.estimate > 0 else ""
                tell(f"{now.backfilled:,}{of_all} rows read")

        return sync.catch_up(on_page=on_page)


def _told(tell: Callable[[str], None], what: str) -> Callable[[int], None]:
    """What counts rows and shows them."""
    total = 0

    def on_page(rows: int) -> None:
        nonlocal total
        total += rows
        tell(f"{total:,} rows {what}")

    return on_page


def _columns(given: list[str]) -> list[str]:
    return [name.strip() for each in given for name in unicode_text(each).split(",")]


def _say_state(sync: Sync, *, json: bool) -> None:
    found = sync.status
    if json:
        _print_json(found)
        return
    say(f"{found.name} is {found.state}")


def _said(name: str, found: Verified) -> str:
    compared = quantity(found.compared, "row")
    if not found.differences:
        return f"{name}: {compared} compared, no differences"
    parts = (
        (found.missing, "missing"),
        (found.changed, "changed"),
        (found.extra, "of rows that are gone"),
    )
    told = ", ".join(f"{count:,} {what}" for count, what in parts if count)
    return f"{name}: {compared} compared, {told}{'; stored again' if found.mended else ''}"


def _facts(found: SyncInfo) -> list[tuple[str, str]]:
    from embedfleet.progress import duration

    read = f"{quantity(found.backfilled, 'row')} read"
    if found.backfilled_at is None and found.estimate > 0:
        read += f" of about {found.estimate:,.0f}"
    facts = [
        ("table", found.table),
        ("key", ", ".join(found.key)),
        ("text", ", ".join(found.text)),
        ("metadata", ", ".join(found.metadata) or "none"),
        ("state", found.state),
        ("backfill", read),
        ("behind", f"{quantity(found.behind, 'row')}, {duration(found.behind_seconds)}"),
    ]
    if found.verified_at is not None:
        seen = f"{found.verified_at.astimezone():%Y-%m-%d %H:%M}"
        facts.append(("verified", f"{seen}, {quantity(found.differences or 0, 'difference')}"))
    if found.problem is not None:
        facts.append(("problem", found.problem))
    return facts
