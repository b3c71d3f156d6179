"""Collections: create, list, show, drop, grant."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from embedfleet.cli import columns, migrating, templating
from embedfleet.cli.option_groups import ungrouped
from embedfleet.cli.output import note, print_json, say, table, terminal
from embedfleet.cli.parameters import Json, Name, Template, Yes
from embedfleet.cli.session import session
from embedfleet_schema.amounts import quantity
from embedfleet_schema.errors import UsageError
from embedfleet_schema.types import (
    Chunking,
    ChunkMode,
    DemandedPrecision,
    IndexPolicy,
    Metric,
    Queue,
    Reuse,
    Storage,
    TooLong,
)

if TYPE_CHECKING:
    from embedfleet import Collection
    from embedfleet_schema.store.collection_counts import CollectionCounts

Model = Annotated[str, typer.Option(help="Name on the hub, directory, or provider/name.")]
Size = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Most tokens of a chunk. 0: as many as the model takes.",
        show_default="400, or what the model takes if less",
    ),
]
Overlap = Annotated[
    int | None, typer.Option(min=0, help="Tokens that two neighbouring chunks share.")
]
Mode = Annotated[ChunkMode | None, typer.Option(help="Cut as plain text or as Markdown.")]
Tokenizer = Annotated[
    str | None, typer.Option(help="Count tokens with this model's or file's tokenizer.")
]
WhenTooLong = Annotated[
    TooLong | None,
    typer.Option(
        "--too-long",
        help="What to do with a ready-made chunk that is longer than the model takes.",
        show_default="reject",
    ),
]


@dataclass(frozen=True, slots=True)
class Cutting:
    """How a collection cuts its documents, as far as it is named."""

    size: Size = None
    overlap: Overlap = None
    mode: Mode = None
    tokenizer: Tokenizer = None
    too_long: WhenTooLong = None
    template: Template = None

    def chunking(self) -> Chunking | None:
        """None where nothing is named."""
        named = {key: value for key, value in asdict(self).items() if value is not None}
        return Chunking(**named) if named else None


OnQueue = Annotated[Queue | None, typer.Option(help="The queue whose workers embed it.")]
Dimensions = Annotated[
    int | None,
    typer.Option(
        min=1, help="Length of the vectors: one that the model offers, or a local one is cut to."
    ),
]
MaxTokens = Annotated[
    int | None,
    typer.Option(min=1, help="Tokens that a model unknown to embedfleet takes."),
]
StoredAs = Annotated[Storage | None, typer.Option(help="float32, or float16 at half the size.")]
Nearness = Annotated[
    Metric | None, typer.Option(help="How the distance of two vectors is measured.")
]
Sharing = Annotated[
    Reuse | None,
    typer.Option(
        "--reuse",
        help="Share vectors with other collections of the same space, or with none.",
        show_default="space",
    ),
]
Demanded = Annotated[
    DemandedPrecision | None,
    typer.Option(
        "--precision",
        help="Have all workers calculate the vectors in float32, whatever their own setting.",
        show_default="what a worker has",
    ),
]
NoFilterIndex = Annotated[
    bool,
    typer.Option(
        "--no-filter-index",
        help="Create no index on metadata: searches with --where are slow, and documents are "
        "stored faster.",
    ),
]
Indexed = Annotated[
    IndexPolicy | None,
    typer.Option(
        "--index",
        help="auto: enqueue --wait drops the index before a large load, and builds it afterwards. "
        "manual: you build it with: embedfleet index",
        show_default="manual",
    ),
]
Cascade = Annotated[bool, typer.Option("--cascade", help="Also drop views that read it.")]
Role = Annotated[str, typer.Argument(metavar="ROLE", help="A role of PostgreSQL.")]
OfView = Annotated[
    bool, typer.Option("--view", help="Let the role read the view with SQL, instead of search.")
]
Revoke = Annotated[bool, typer.Option("--revoke", help="Revoke the grant.")]
Library = Annotated[
    Literal["llamaindex"], typer.Option("--as", help="The library that shall read the view.")
]
Remove = Annotated[bool, typer.Option("--remove", help="Drop the view again.")]


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(help="Create, list, show and drop collections.", rich_markup_mode=None)
    group.command()(ungrouped(create))
    group.command("list")(list_all)
    group.command()(show)
    group.command()(drop)
    group.command()(grant)
    group.command()(expose)
    templating.add_to(group)
    migrating.add_to(group)
    group.command()(columns.column)
    app.add_typer(group, name="collection")


def create(
    context: typer.Context,
    name: Name,
    *,
    model: Model,
    cutting: Cutting,
    queue: OnQueue = None,
    dimensions: Dimensions = None,
    max_tokens: MaxTokens = None,
    storage: StoredAs = None,
    metric: Nearness = None,
    reuse: Sharing = None,
    precision: Demanded = None,
    no_filter_index: NoFilterIndex = False,
    index: Indexed = None,
    column: columns.Columns = None,
    json: Json = False,
) -> None:
    """Create a collection. If it exists with the same options, nothing happens."""
    fields = columns.parsed(column or [])
    with session(context).fleet() as fleet:
        collection = fleet.collection(
            name,
            model,
            chunking=cutting.chunking(),
            queue=queue,
            dimensions=dimensions,
            max_tokens=max_tokens,
            storage=storage,
            metric=metric,
            reuse=reuse,
            precision=precision,
            filter_index=not no_filter_index,
        )
        if index is not None:
            collection.set_index(policy=index)
        columns.add(collection, fields)
        if json:
            print_json(described(collection))
            return
        info = collection.info
        width = quantity(info.space.dimensions, "dimension")
        say(f"{name}: {info.space.name}, {width}, queue {info.queue}")
        note(f"Next: embedfleet enqueue {name} PATH")


def list_all(context: typer.Context, json: Json = False) -> None:
    """List the collections.

    With --json, sizes are those that the last vacuum or analyze found; `show` measures them, and
    also shows the index.
    """
    from embedfleet_schema.store.collection_counts import counts_of_all

    with session(context).fleet(looks_only=True) as fleet:
        held = counts_of_all(fleet.db)
        there = [each for each in fleet.collections() if each.info.id in held]
        found = [described(each, held[each.info.id]) for each in there]
    if json:
        print_json(found)
    elif not found:
        note("No collections yet. Create one: embedfleet collection create NAME --model MODEL")
    else:
        names = ("name", "model", "documents", "vectors", "failures", "queue")
        rows = [[str(each[name]) for name in names] for each in found]
        columns = ("name", "model", "#documents", "#vectors", "#failures", "queue")
        terminal().print(table(columns, rows))


def show(context: typer.Context, name: Name, json: Json = False) -> None:
    """Show a collection: its model, how it cuts documents, how much it holds, its model change."""
    with session(context).fleet(looks_only=True) as fleet:
        found = described(fleet.collection(name))
    if json:
        print_json(found)
        return
    for key, value in found.items():
        say(f"{key:16} {_shown(value)}")


def drop(
    context: typer.Context,
    name: Name,
    yes: Yes = False,
    cascade: Cascade = False,
    json: Json = False,
) -> None:
    """Drop a collection with all its documents and vectors. This cannot be undone."""
    with session(context).fleet() as fleet:
        collection = fleet.collection(name)
        if not yes:
            _ask(collection)
        along = collection.drop(cascade=cascade)
    if json:
        print_json({"dropped": name, "along": along})
        return
    say(f"dropped {name}")
    for line in along:
        say(line)


def grant(
    context: typer.Context,
    name: Name,
    role: Role,
    view: OfView = False,
    revoke: Revoke = False,
    json: Json = False,
) -> None:
    """Let a role search one collection, or read its view, and no other collection."""
    with session(context).fleet() as fleet:
        collection = fleet.collection(name)
        if revoke:
            collection.revoke(role, view=view)
        else:
            collection.grant(role, view=view)
    function = f"embedfleet.search_{name}"
    opened = {"view": f"embedfleet.{name}"} if view else {"function": function}
    if json:
        print_json({"name": name, "role": role, **opened, "granted": not revoke})
    elif view:
        say(f"{role} may {'not read' if revoke else 'read'} {opened['view']}{' any more' * revoke}")
    elif revoke:
        say(f"{role} may not call {function} any more")
    else:
        say(f"{role} may search with {function}(query, k, filter)")


def expose(
    context: typer.Context,
    name: Name,
    library: Library = "llamaindex",
    remove: Remove = False,
    json: Json = False,
) -> None:
    """Make a view that another library reads like a table of its own."""
    with session(context).fleet() as fleet:
        collection = fleet.collection(name)
        if remove:
            dropped = collection.unexpose(library)
        else:
            view = f"embedfleet.{collection.expose(library)}"
    if json:
        print_json({"name": name, "dropped": dropped} if remove else {"name": name, "view": view})
    elif remove:
        say(f"{name} is not exposed any more" if dropped else f"{name} was not exposed")
    else:
        say(f"{library} may read {view}")


def described(collection: Collection, counts: CollectionCounts | None = None) -> dict[str, Any]:
    """A collection as `--json` shows it; with index and model change where no list is made."""
    info = collection.info
    space = asdict(info.space)
    keys = ("revision", "dimensions", "max_tokens", "storage", "metric")
    return {
        "name": info.name,
        "model": info.space.name,
        **{key: space[key] for key in keys},
        "queue": info.queue,
        "reuse": info.reuse,
        "precision": info.precision,
        "chunking": asdict(info.chunking),
        **({} if info.former_template is None else {"former_template": info.former_template}),
        "created_at": info.created_at,
        **asdict(counts or collection.counts()),
        **({} if counts else _details_of(collection)),
    }


def _details_of(collection: Collection) -> dict[str, Any]:
    found = collection.index_info()
    index = None if found.index is None else asdict(found.index)
    return {
        "index": index,
        "search": asdict(found.settings),
        "columns": columns.described(collection),
        "model_change": migrating.change_json(collection.model_change()),
    }


def _shown(value: object) -> str:
    if isinstance(value, dict):
        # A template has new lines.
        said = {key: repr(each) if key == "template" else each for key, each in value.items()}
        return ", ".join(f"{key} {each}" for key, each in said.items() if value[key] != "")
    if isinstance(value, list):
        return ", ".join(map(columns.shown, value)) or "no columns of the metadata"
    return str(value)


def _ask(collection: Collection) -> None:
    if not sys.stdin.isatty():
        raise UsageError(reason=f"To drop {collection.name!r} without confirmation, add --yes")
    documents = quantity(collection.counts().documents, "document")
    typer.confirm(f"Drop {collection.name} with its {documents}?", abort=True, err=True)
