"""`search`: the chunks nearest to a text."""

from __future__ import annotations

import json as json_module
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.output import note, one_line, print_json, say
from embedfleet.cli.parameters import (
    Filter,
    Json,
    Name,
    Where,
    optional_unicode,
    parse_filter,
)
from embedfleet.cli.session import session
from embedfleet.reranking import RERANK_TOP
from embedfleet_schema.errors import UnreadableQuery, UsageError
from embedfleet_schema.hits import RerankedHit

if TYPE_CHECKING:
    from embedfleet import Hit

EXCERPT_CHARACTERS = 300

Query = Annotated[
    str | None,
    typer.Argument(metavar="[TEXT]", help="What to look for.", callback=optional_unicode),
]
Count = Annotated[int, typer.Option("-k", min=1, max=10_000, help="How many hits.")]
MinScore = Annotated[float | None, typer.Option(help="Leave out hits that score less.")]
Hybrid = Annotated[
    bool, typer.Option("--hybrid", help="Also search for the words; see embedfleet index --text.")
]
Rerank = Annotated[
    str | None,
    typer.Option(
        "--rerank",
        metavar="MODEL",
        help="Let this model order the best hits: a local cross-encoder, cohere/... or voyage/...",
    ),
]
RerankTop = Annotated[int, typer.Option(min=1, max=1_000, help="How many hits it reads.")]
Interactive = Annotated[
    bool,
    typer.Option("--interactive", "-i", help="Ask for one text after the other, until Ctrl-D."),
]
ShowSql = Annotated[
    bool, typer.Option("--sql", help="Print the SQL, for psql, instead of running it.")
]


def add_to(app: typer.Typer) -> None:
    app.command()(search)


def search(
    context: typer.Context,
    name: Name,
    text: Query = None,
    *,
    k: Count = 5,
    where: Where = None,
    filter: Filter = None,  # noqa: A002 - the name of the option
    min_score: MinScore = None,
    hybrid: Hybrid = False,
    rerank: Rerank = None,
    rerank_top: RerankTop = RERANK_TOP,
    interactive: Interactive = False,
    sql: ShowSql = False,
    json: Json = False,
) -> None:
    """Find the chunks nearest to a text, best first.

    If a worker has the model loaded, it embeds the text. Otherwise the model is loaded here. A
    local model for --rerank is always loaded here, which takes seconds.
    """
    wanted = parse_filter(where or (), filter)
    if hybrid and (sql or min_score is not None):
        raise UsageError(
            reason="--hybrid takes neither --sql nor --min-score: its scores are ranks"
        )
    if rerank is not None and sql:
        raise UsageError(reason="--rerank runs here, and not in SQL: leave out --sql or --rerank")
    most = k if rerank is None else max(k, rerank_top)
    if (text is None) != interactive:
        raise UsageError(reason="Give a TEXT to search for, or --interactive to be asked for texts")
    # What numpy multiplies matrices with makes threads as it is imported, which takes 50 ms of a
    # processor. Nothing is multiplied here, and a model has threads of its own.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with session(context).fleet(looks_only=True) as fleet:
        fleet.tell = note
        collection = fleet.collection(name)

        def answer(text: str) -> None:
            vector = collection.embed_query(text)
            if sql:
                script = collection.search_script(vector, k=k, where=wanted)
                print_json({"sql": script}) if json else say(script)
                return
            if hybrid:
                hits = collection.hybrid_search(text, k=most, where=wanted)
            else:
                hits = collection.search(vector, k=most, where=wanted, min_score=min_score)
            if rerank is not None:
                hits = collection.reranked(text, hits, rerank)[:k]
            _show_all(hits, name, json=json)

        if text is not None:
            answer(text)
        else:
            _converse(answer)


def _converse(answer: Callable[[str], None]) -> None:
    """Answer one text after the other; what is wrong with one of them is said."""
    for text in _texts():
        try:
            answer(text)
        except UnreadableQuery as error:
            note(f"error: {error}")


def _texts() -> Iterator[str]:
    """Lines of standard input that are not blank; a person is prompted for them, and can edit them
    and go back to former ones. None is kept when the command ends.
    """
    if sys.stdin.isatty():
        with suppress(ImportError):  # not on Windows, whose terminal does it
            import readline  # noqa: F401 - `input` uses it then
    while True:
        if sys.stdin.isatty():
            try:
                line = input("search> ")
            except EOFError:
                note("")
                return
        elif not (line := sys.stdin.readline()):
            return
        if line.strip():
            yield line.strip()


def _show_all(hits: list[Hit], name: str, *, json: bool) -> None:
    if json:
        print_json([asdict(hit) for hit in hits])
    elif hits:
        for hit in hits:
            _show(hit)
    else:
        note("Nothing found. To see what the collection holds: embedfleet collection show " + name)


def _show(hit: Hit) -> None:
    metadata = json_module.dumps(hit.metadata, ensure_ascii=False) if hit.metadata else ""
    scores = f"{hit.score:.3f}"
    if isinstance(hit, RerankedHit):
        scores = f"{hit.rerank_score:.3f}  {scores}"
    say(f"{scores}  {one_line(hit.document)} #{hit.position}  {one_line(metadata)}".rstrip())
    excerpt = one_line(hit.content)
    if len(excerpt) > EXCERPT_CHARACTERS:
        excerpt = excerpt[:EXCERPT_CHARACTERS].rstrip() + " ..."
    say(f"       {excerpt}")
