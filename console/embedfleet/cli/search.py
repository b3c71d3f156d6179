"""`search`: the chunks nearest to a text."""

from __future__ import annotations

import json as json_module
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.output import note, one_line, print_json, say
from embedfleet.cli.parameters import (
    Filter,
    Json,
    Name,
    Where,
    parse_filter,
    unicode_text,
)
from embedfleet.cli.session import session
from embedfleet_schema.errors import UsageError

if TYPE_CHECKING:
    from embedfleet import Hit

EXCERPT_CHARACTERS = 300

Query = Annotated[
    str, typer.Argument(metavar="TEXT", help="What to look for.", callback=unicode_text)
]
Count = Annotated[int, typer.Option("-k", min=1, max=10_000, help="How many hits.")]
MinScore = Annotated[float | None, typer.Option(help="Leave out hits that score less.")]
Hybrid = Annotated[
    bool, typer.Option("--hybrid", help="Also search for the words; see embedfleet index --text.")
]
ShowSql = Annotated[
    bool, typer.Option("--sql", help="Print the SQL, for psql, instead of running it.")
]


def add_to(app: typer.Typer) -> None:
    app.command()(search)


def search(
    context: typer.Context,
    name: Name,
    text: Query,
    *,
    k: Count = 5,
    where: Where = None,
    filter: Filter = None,  # noqa: A002 - the name of the option
    min_score: MinScore = None,
    hybrid: Hybrid = False,
    sql: ShowSql = False,
    json: Json = False,
) -> None:
    """Find the chunks nearest to a text, best first."""
    wanted = parse_filter(where or (), filter)
    if hybrid and (sql or min_score is not None):
        raise UsageError(
            reason="--hybrid takes neither --sql nor --min-score: its scores are ranks"
        )
    with session(context).fleet(looks_only=True) as fleet:
        collection = fleet.collection(name)
        from embedfleet.progress import activity

        with activity(f"loading {collection.info.space.name}, then embedding the text"):
            vector = collection.embed_query(text)
        if sql:
            script = collection.search_script(vector, k=k, where=wanted)
            print_json({"sql": script}) if json else say(script)
            return
        if hybrid:
            hits = collection.hybrid_search(text, k=k, where=wanted)
        else:
            hits = collection.search(vector, k=k, where=wanted, min_score=min_score)
    if json:
        print_json([asdict(hit) for hit in hits])
    elif hits:
        for hit in hits:
            _show(hit)
    else:
        note("Nothing found. To see what the collection holds: embedfleet collection show " + name)


def _show(hit: Hit) -> None:
    metadata = json_module.dumps(hit.metadata, ensure_ascii=False) if hit.metadata else ""
    say(f"{hit.score:.3f}  {one_line(hit.document)} #{hit.position}  {one_line(metadata)}".rstrip())
    excerpt = one_line(hit.content)
    if len(excerpt) > EXCERPT_CHARACTERS:
        excerpt = excerpt[:EXCERPT_CHARACTERS].rstrip() + " ..."
    say(f"       {excerpt}")
