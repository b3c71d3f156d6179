"""`import pgai`: collections of what pgai embedded."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.output import note, one_line, print_json, say, table, terminal
from embedfleet.cli.parameters import Json, optional_unicode, unicode_text
from embedfleet.cli.reading import say_rejections
from embedfleet.cli.session import session
from embedfleet_schema.amounts import quantity

if TYPE_CHECKING:
    from embedfleet.pgai import TakenOver

# A command of two words: `import pgai`.
NAME = "import pgai"

Url = Annotated[
    str | None,
    typer.Argument(
        metavar="URL",
        help="The database with pgai, as postgresql://user@host/name. Default: your own.",
        callback=optional_unicode,
    ),
]
Names = Annotated[
    list[str] | None,
    typer.Option(
        "--vectorizer",
        metavar="NAME",
        help="Take over this one only. Repeatable. Default: all.",
        callback=lambda names: [unicode_text(name) for name in names or ()],
    ),
]
Into = Annotated[
    str | None,
    typer.Option(
        "--collection",
        metavar="NAME",
        help="The collection of one vectorizer. Default: the vectorizer's name.",
        callback=optional_unicode,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        help="The model of one vectorizer, as it is called here, if pgai's name for it is unknown.",
        callback=optional_unicode,
    ),
]
Metadata = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN,...",
        help="Columns of one vectorizer's table to keep as metadata. Default: all that can be.",
        callback=optional_unicode,
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Look only. Nothing is written.")]


def add_to(app: typer.Typer) -> None:
    app.command(NAME)(import_pgai)


def import_pgai(
    context: typer.Context,
    url: Url = None,
    vectorizer: Names = None,
    collection: Into = None,
    model: Model = None,
    metadata: Metadata = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Make collections of pgai's vectorizers, with their vectors. Nothing is embedded again.

    The exit code is 1 if one of them could not be taken over.
    """
    from embedfleet.pgai import Wanted, take_over
    from embedfleet.progress import enqueue_progress

    columns = None if metadata is None else tuple(filter(None, map(str.strip, metadata.split(","))))
    with session(context).fleet() as fleet, enqueue_progress() as show:
        found = take_over(
            fleet,
            url,
            names=vectorizer or (),
            wanted=Wanted(collection, model, columns),
            dry_run=dry_run,
            on_window=show,
        )
    if json:
        print_json([asdict(each) for each in found])
    else:
        _report(found, dry_run=dry_run)
    if any(each.refused for each in found):
        raise typer.Exit(1)


def _report(found: list[TakenOver], *, dry_run: bool) -> None:
    counts = (
        ("#documents", "#chunks") if dry_run else ("#documents", "#chunks", "#new", "#rejected")
    )
    columns = ("vectorizer", "source", "collection", "model", *counts)
    terminal().print(table(columns, [_row(each, dry_run=dry_run) for each in found]))
    for each in found:
        _say_rest(each)
    if dry_run:
        note("Nothing was written")


def _row(each: TakenOver, *, dry_run: bool) -> list[str]:
    row = [each.vectorizer, each.source, each.collection, each.model]
    row += [f"{each.documents:,}", f"{each.chunks:,}"]
    if not dry_run:
        done = each.enqueued
        row += ["", ""] if done is None else [f"{done.documents:,}", f"{done.rejected:,}"]
    return row


def _say_rest(each: TakenOver) -> None:
    """What did not come along, and what to do next."""
    name = each.vectorizer
    if each.refused is not None:
        note(one_line(f"{name}: {each.refused}"))
        return
    for what in each.not_taken:
        say(one_line(f"{name}: not taken over: {what}"))
    if each.enqueued is not None:
        say_rejections(each.enqueued.rejections, each.enqueued.rejected)
    if each.sync is not None:
        again = "" if each.to_embed is None else f" ({_embeds(each.to_embed)})"
        note(f"{name}: keep it in step{again}: {each.sync}")


def _embeds(count: int) -> str:
    return "nothing is embedded again" if not count else f"embeds {quantity(count, 'text')}"
