"""`documents`: what a collection holds, by key."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.output import note, print_json, table, terminal
from embedfleet.cli.parameters import Json, Name, unicode_text
from embedfleet.cli.session import session

if TYPE_CHECKING:
    from embedfleet import DocumentInfo

Prefix = Annotated[str, typer.Option(help="Only keys that start with it.", callback=unicode_text)]
Limit = Annotated[int, typer.Option(min=1, max=1_000_000, help="How many, by key.")]


def add_to(app: typer.Typer) -> None:
    app.command()(documents)


def documents(
    context: typer.Context, name: Name, prefix: Prefix = "", limit: Limit = 100, json: Json = False
) -> None:
    """List the documents of a collection: key, source, chunks, whether they are live."""
    with session(context).fleet() as fleet:
        found = list(islice(fleet.collection(name).documents(prefix=prefix), limit + 1))
    shown = found[:limit]
    if json:
        print_json(shown)
    elif not shown:
        which = f" whose key starts with {prefix}" if prefix else ""
        note(f"No documents in {name}{which}")
    else:
        columns = ("key", "source", "#chunks", "live", "updated")
        terminal().print(table(columns, [_row(each) for each in shown]))
    if len(found) > limit:
        note(f"These are the first {limit:,}. To see more, use --limit; to see fewer, use --prefix")


def _row(document: DocumentInfo) -> list[str]:
    return [
        document.key,
        document.source or "",
        f"{document.chunks:,}",
        "yes" if document.live else "no",
        f"{document.updated_at.astimezone():%Y-%m-%d %H:%M}",
    ]
