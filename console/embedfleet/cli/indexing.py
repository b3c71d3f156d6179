"""Build the indexes of a collection, and show how far that is; measure what the index finds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.output import note, print_json, say, table, terminal
from embedfleet.cli.parameters import Json, Name
from embedfleet.cli.session import session
from embedfleet_schema.database_errors import NotPermitted
from embedfleet_schema.errors import UsageError
from embedfleet_schema.types import IndexMethod, IndexPolicy, IndexType

if TYPE_CHECKING:
    from embedfleet import Collection, Fleet
    from embedfleet.recall import Recall
    from embedfleet_schema.store.field_index import FieldKind

POLL_SECONDS = 1.0
# Before that the share that is done says little about what is left.
ETA_AFTER_SECONDS = 3.0
# What PostgreSQL takes for `maintenance_work_mem`.
MOST_MEMORY_MB = 2_097_151

Method = Annotated[
    IndexMethod | None,
    typer.Option(help="The kind of index.", show_default="hnsw"),
]
Type = Annotated[
    IndexType | None,
    typer.Option(
        help="As what vectors are indexed: float32, float16, or their signs (candidates are "
        "compared by their vectors).",
        show_default="as they are stored; with more dimensions, the smaller types",
    ),
]
Memory = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=MOST_MEMORY_MB,
        help="MB of the server's memory for the build.",
        show_default="what the build needs, 2048 at the most or what the server is set to",
    ),
]
Rebuild = Annotated[bool, typer.Option("--rebuild", help="Build the index on vectors anew.")]
Drop = Annotated[
    bool, typer.Option("--drop", help="Drop the index on vectors, before a large load.")
]
Auto = Annotated[
    bool,
    typer.Option(
        "--auto",
        help="Decide by what is stored and what waits: drop the index, build it, or do nothing.",
    ),
]
Policy = Annotated[
    IndexPolicy | None,
    typer.Option(
        help="auto: enqueue --wait drops and builds the index, as --auto does. manual: you do.",
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
Hits = Annotated[int, typer.Option("--k", "-k", min=1, max=1_000, help="Hits of a search.")]
Queries = Annotated[int, typer.Option(min=1, help="How many questions are asked.")]
Target = Annotated[
    float, typer.Option(min=0, max=1, help="The share of the exact hits to be found.")
]
Apply = Annotated[bool, typer.Option("--apply", help="Store the setting that reaches the target.")]

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
    app.command()(recall)


def index(
    context: typer.Context,
    name: Name,
    *,
    method: Method = None,
    type: Type = None,  # noqa: A002 - the name of the option
    memory: Memory = None,
    rebuild: Rebuild = False,
    drop: Drop = False,
    auto: Auto = False,
    policy: Policy = None,
    no_filters: NoFilters = False,
    text: Words = None,
    field: Fields = None,
    json: Json = False,
) -> None:
    """Build the index on vectors, and on metadata if there is none. They make searches fast."""
    fields = [_field(each) for each in field or ()]
    if sum((rebuild, drop, auto)) > 1 or ((rebuild or drop or auto) and (method or type)):
        raise UsageError(reason="give one of --rebuild, --drop and --auto, or what index to build")
    with session(context).fleet() as fleet:
        collection = fleet.collection(name)
        if policy is not None:
            collection.set_index(policy=policy)
        if drop:
            _say_done(name, {"dropped": collection.drop_index()}, json=json)
        elif auto:
            with _progress(fleet, collection):
                done = collection.follow_load()
            _say_done(name, {"decision": done}, json=json)
        elif rebuild:
            with _progress(fleet, collection):
                rebuilt = collection.rebuild_index(memory_mb=memory)
            _say_done(name, {"rebuilt": rebuilt}, json=json)
        else:
            _say_memory(collection, method, type, memory)
            with _progress(fleet, collection):
                built = collection.index(method=method, type=type, memory_mb=memory, filters=False)
                of_metadata = collection.index_filters(wanted=not no_filters)
                of_words = collection.index_words(text) if text else None
                of_fields = [collection.index_field(each, kind) for each, kind in fields]
            names: dict[str, str | list[str] | None] = {
                "built": built,
                "built_for_filters": of_metadata,
                "built_for_words": of_words,
                "built_for_fields": [each for each in of_fields if each],
            }
            _say_done(name, names, json=json)


def recall(
    context: typer.Context,
    name: Name,
    *,
    k: Hits = 10,
    queries: Queries = 100,
    target: Target = 0.95,
    apply: Apply = False,
    json: Json = False,
) -> None:
    """Compare searches by the index with exact ones: what they find, and how long they take."""
    from embedfleet.progress import activity

    with session(context).fleet(looks_only=True) as fleet:
        collection = fleet.collection(name)
        with activity("asking each question exactly and by the index"):
            found = collection.recall(k=k, queries=queries, target=target, apply=apply)
    if json:
        print_json(
            {**asdict(found), "recall": found.recall, "applied": apply and bool(found.advised)}
        )
        return
    _say_recall(found, apply=apply)


def _field(word: str) -> tuple[str, FieldKind]:
    """A field and what its values are: `year`, `year:number`, `day:date`."""
    field, colon, kind = word.rpartition(":")
    match kind:
        case "number" | "date" if colon and field:
            return field, kind
        case _:
            return word, "number"


@contextmanager
def following_load(fleet: Fleet, collection: Collection, *, wanted: bool) -> Iterator[None]:
    """While somebody waits for a load: with the policy `auto`, the index is dropped before a large
    one, and built when it is over.
    """
    if not wanted or collection.index_info().settings.policy != "auto":
        yield
        return
    _follow(fleet, collection)
    yield
    _follow(fleet, collection)


def _follow(fleet: Fleet, collection: Collection) -> None:
    """Who may not is told who has to; the load goes on."""
    advice = f"embedfleet index {collection.name} --auto"
    try:
        with _progress(fleet, collection):
            done = collection.follow_load()
    except NotPermitted:
        note(f"Only the owner of the tables drops and builds the index: run {advice} as the owner")
        return
    if done == "dropped":
        note(f"The index is dropped until the load is over. If you leave: {advice}")
    elif done == "built":
        note("The index is built")
    elif done == "busy":
        note("Another process sees to the index")


def _say_memory(
    collection: Collection,
    method: IndexMethod | None,
    type_: IndexType | None,
    memory: int | None,
) -> None:
    found = collection.index_memory(method=method, type=type_, memory_mb=memory)
    if not found.fits and (method or type_ or not collection.counts().indexed):
        note(
            f"The index needs {found.needed_mb:,} MB of the server's memory and the build uses"
            f" {found.taken_mb:,} MB, so it will be slow. If the server has enough: embedfleet"
            f" index {collection.name} --memory {found.needed_mb}"
        )


def _say_done(name: str, done: Mapping[str, str | list[str] | None], *, json: bool) -> None:
    if json:
        print_json({"collection": name, **done})
        return
    said = False
    for key, value in done.items():
        for each in filter(None, [value] if isinstance(value, str) else value or ()):
            say(f"{key.partition('_')[0]} {each}" if key != "decision" else f"index: {each}")
            said = True
    if not said and "built" in done:
        say(f"{name} is already indexed")
    elif not said:
        say(f"{name} has no index on vectors")


def _say_recall(found: Recall, *, apply: bool) -> None:
    source = (
        "queries of the cache" if found.source == "queries" else "chunks, left out of their hits"
    )
    say(f"index     {found.index}, {found.index.bytes / 1e6:,.1f} MB")
    say(f"asked     {found.queries} {source}; the {found.k} nearest of each")
    rows = [["exact", "1.000", f"{found.exact.p50_ms:.1f}", f"{found.exact.p95_ms:.1f}"]]
    for step in found.steps:
        value = "default" if step.value is None else str(step.value)
        p50, p95 = f"{step.latency.p50_ms:.1f}", f"{step.latency.p95_ms:.1f}"
        rows.append([f"{found.setting} {value}", f"{step.recall:.3f}", p50, p95])
    recall_at = f"#recall@{found.k}"
    terminal().print(table(("search", recall_at, "#p50 ms", "#p95 ms"), rows))
    if found.steps[-1].recall < found.target:
        note(
            f"None reaches {found.target}. An index on a larger type finds more: embedfleet index "
            f"{found.collection} --type ..."
        )
    elif found.advised is None:
        note(f"The present setting reaches {found.target}")
    elif apply:
        say(f"set {found.setting} to {found.advised} for {found.collection}")
    else:
        note(
            f"{found.setting} {found.advised} reaches {found.target}. To store it: embedfleet"
            f" recall {found.collection} --target {found.target} --apply"
        )


@contextmanager
def _progress(fleet: Fleet, collection: Collection) -> Iterator[None]:
    """Show how far the build is, from a thread that looks at it through another connection."""
    from psycopg import Error

    from embedfleet.progress import activity

    ended = threading.Event()

    def follow(tell: Callable[[str], None]) -> None:
        phases = _Phases(fleet, collection)
        try:
            while not ended.wait(POLL_SECONDS):
                tell(phases.now())
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


class _Phases:
    """The phases of a build, as PostgreSQL names them, and how long the present one will take."""

    def __init__(self, fleet: Fleet, collection: Collection) -> None:
        self._fleet, self._collection = fleet, collection
        self._phase, self._began, self._done = "", 0.0, 0.0

    def now(self) -> str:
        from embedfleet.progress import duration
        from embedfleet_schema.store.index_builds import progress

        row = progress(self._fleet.db, self._collection.info)
        if row is None:
            return "building the index"
        if row["current_locker_pid"]:
            return f"{row['phase']}, for the transaction of pid {row['current_locker_pid']}"
        done, total = row["tuples_done"], row["tuples_total"]
        if not total:
            done, total = row["blocks_done"], row["blocks_total"]
        if not total:
            return str(row["phase"])
        share, now = done / total, time.monotonic()
        if row["phase"] != self._phase or share < self._done:
            self._phase, self._began, self._done = row["phase"], now, share
        spent, gained = now - self._began, share - self._done
        left = (
            f", {duration(spent / gained * (1 - share))} left"
            if (spent >= ETA_AFTER_SECONDS and gained > 0)
            else ""
        )
        return f"{row['phase']}, {100 * share:.0f}%{left}"
