"""Build the indexes of a collection, and show how far that is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.output import note, print_json, say
from embedfleet.cli.parameters import Json, Name
from embedfleet.cli.session import session

if TYPE_CHECKING:
    from embedfleet import Collection, Fleet
    from embedfleet_schema.store.field_index import FieldKind

POLL_SECONDS = 1.0
# What PostgreSQL takes for `maintenance_work_mem`.
MOST_MEMORY_MB = 2_097_151

Memory = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=MOST_MEMORY_MB,
        help="MB of the server's memory for the build.",
        show_default="what the graph needs, 2048 at the most",
    ),
]
NoFilters = Annotated[
    bool, typer.Option("--no-filters", help="Build no index on metadata, and drop an existing one.")
]
Words = Annotated[
    str | None,
    typer.Option(
        "--text",
        metavar="LANGUAGE",
        help="Also build an index on words, for hybrid search: english, german, simple ...",
    ),
]

Fields = Annotated[
    list[str] | None,
    typer.Option(
        "--field",
        metavar="FIELD",
        help="Also build an index on a field of the metadata, for filters with ranges: year for"
        " numbers, day:date for dates.",
    ),
]


def add_to(app: typer.Typer) -> None:
    app.command()(index)


def index(
    context: typer.Context,
    name: Name,
    memory: Memory = None,
    no_filters: NoFilters = False,
    text: Words = None,
    field: Fields = None,
    json: Json = False,
) -> None:
    """Build the HNSW index, and the index on metadata if there is none. They make searches fast."""
    fields = [_field(each) for each in field or ()]
    with session(context).fleet() as fleet:
        collection = fleet.collection(name)
        found = collection.index_memory(memory_mb=memory)
        if not found.fits and not collection.counts().indexed:
            note(
                f"The index needs {found.needed_mb:,} MB of the server's memory and the build uses"
                f" {found.taken_mb:,} MB, so it will be slow. If the server has enough: embedfleet"
                f" index {name} --memory {found.needed_mb}"
            )
        with _index_progress(fleet, collection):
            built = collection.index(memory_mb=memory, filters=False)
            of_metadata = collection.index_filters(wanted=not no_filters)
            of_words = collection.index_words(text) if text else None
            of_fields = [collection.index_field(each, kind) for each, kind in fields]
    if json:
        names = {"built": built, "built_for_filters": of_metadata, "built_for_words": of_words}
        print_json({"collection": name, **names, "built_for_fields": of_fields})
        return
    made = [each for each in (built, of_metadata, of_words, *of_fields) if each]
    for each in made:
        say(f"built {each}")
    if not made:
        say(f"{name} is already indexed")


def _field(word: str) -> tuple[str, FieldKind]:
    """A field and what its values are: `year`, `year:number`, `day:date`."""
    field, colon, kind = word.rpartition(":")
    match kind:
        case "number" | "date" if colon and field:
            return field, kind
        case _:
            return word, "number"


@contextmanager
def _index_progress(fleet: Fleet, collection: Collection) -> Iterator[None]:
    """Show how far the build is, from a thread that looks at it through another connection."""
    from psycopg import Error

    from embedfleet.progress import activity

    ended = threading.Event()

    def follow(tell: Callable[[str], None]) -> None:
        try:
            while not ended.wait(POLL_SECONDS):
                tell(_phase(fleet, collection))
        except Error:
            return  # the build has the same database, and says what is wrong with it

    with activity("building the index") as tell:
        watcher = threading.Thread(target=follow, args=(tell,), name="embedfleet-index-progress")
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()


def _phase(fleet: Fleet, collection: Collection) -> str:
    from embedfleet_schema.store.collections import index_progress

    row = index_progress(fleet.db, collection.info)
    if row is None:
        return "building the index"
    if row["current_locker_pid"]:
        return f"{row['phase']}, for the transaction of pid {row['current_locker_pid']}"
    done, total = row["tuples_done"], row["tuples_total"]
    if not total:
        done, total = row["blocks_done"], row["blocks_total"]
    share = f", {100 * done / total:.0f}%" if total else ""
    return f"{row['phase']}{share}"
