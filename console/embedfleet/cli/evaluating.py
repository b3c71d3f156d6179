"""`eval`: how good the searches of a collection are, alone or beside other models and sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.option_groups import ungrouped
from embedfleet.cli.output import note, print_json, say, table, terminal
from embedfleet.cli.parameters import Json, Name, file_to_write
from embedfleet.cli.session import session
from embedfleet_schema.amounts import quantity
from embedfleet_schema.errors import UsageError
from embedfleet_schema.money import money

if TYPE_CHECKING:
    from embedfleet import Collection, Fleet
    from embedfleet.evaluation.comparison import Compared
    from embedfleet.evaluation.evaluate import Evaluation

Queries = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help='JSON Lines: {"_id": "1", "text": "..."} for each query.'),
]
Qrels = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Judgements: TREC's four columns, or BEIR's three."),
]
Ranks = Annotated[int, typer.Option("-k", min=1, max=1_000, help="The rank of recall@k.")]
Hybrid = Annotated[bool, typer.Option("--hybrid", help="Also search for the words.")]
Sample = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=1_000_000,
        help="Documents to search for without judgements, or to compare with.",
        show_default="200, and 1000 to compare",
    ),
]
Compare = Annotated[
    str,
    typer.Option(
        metavar="MODEL,MODEL", help="Embed a sample with these; MODEL@DIMENSIONS sets the width."
    ),
]
Sizes = Annotated[
    str,
    typer.Option("--chunks", metavar="SIZE,SIZE", help="Embed a sample in chunks of these sizes."),
]
Plot = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.svg", help="Draw what was compared, as SVG.", callback=file_to_write
    ),
]

KNOWN_ITEMS = (
    "Nobody judged: the queries are sentences of the documents, so these figures are higher than"
    " with people's questions. Compare settings with them, and judge some real queries: --queries,"
    " --qrels"
)


@dataclass(frozen=True, slots=True)
class Side:
    """What is set side by side."""

    compare: Compare = ""
    chunks: Sizes = ""
    plot: Plot = None

    @property
    def models(self) -> list[str]:
        return [each.strip() for each in self.compare.split(",") if each.strip()]

    @property
    def sizes(self) -> list[int]:
        words = [each.strip() for each in self.chunks.split(",") if each.strip()]
        if not all(each.isdecimal() and int(each) for each in words):
            raise UsageError(reason=f"--chunks takes sizes such as 200,400, not {self.chunks!r}")
        return [int(each) for each in words]


def add_to(app: typer.Typer) -> None:
    app.command("eval")(ungrouped(evaluate))


def evaluate(
    context: typer.Context,
    name: Name,
    *,
    queries: Queries = None,
    qrels: Qrels = None,
    k: Ranks = 10,
    hybrid: Hybrid = False,
    sample: Sample = None,
    side: Side,
    json: Json = False,
) -> None:
    """Measure how good the searches are: nDCG@10, recall@k and MRR, by judgements of documents.

    Without --queries and --qrels, sentences of stored documents are searched for. --compare and
    --chunks embed a sample anew, which workers do, and search that.
    """
    models, sizes = side.models, side.sizes
    if side.plot is not None and not (models or sizes):
        raise UsageError(
            reason="--plot draws a comparison: name models with --compare, or --chunks"
        )
    if not (models or sizes):
        from embedfleet.progress import activity

        with session(context).fleet(looks_only=True) as fleet, activity("searching") as tell:
            options = {} if sample is None else {"sample": sample}
            found = fleet.collection(name).eval(
                queries, qrels, k=k, hybrid=hybrid, on_step=tell, **options
            )
        print_json(found) if json else _show(found)
        return
    compared = _compared(context, name, queries, qrels, k, hybrid, sample or 1_000, side)
    print_json(compared) if json else _show_side_by_side(compared)


def _compared(
    context: typer.Context,
    name: str,
    queries: Path | None,
    qrels: Path | None,
    k: int,
    hybrid: bool,
    sample: int,
    side: Side,
) -> list[Compared]:
    from embedfleet.evaluation.plot import check_plots, write_svg

    if side.plot is not None:
        check_plots()
    with session(context).fleet() as fleet:
        collection = fleet.collection(name)
        with _workers(fleet, collection, side.models):
            compared = collection.compare(
                side.models,
                side.sizes,
                queries,
                qrels,
                sample=sample,
                k=k,
                hybrid=hybrid,
                progress=True,
                on_step=note,
            )
    if side.plot is not None:
        write_svg(side.plot, compared)
        note(f"drawn in {side.plot}")
    return compared


@contextmanager
def _workers(fleet: Fleet, collection: Collection, models: Sequence[str]) -> Iterator[None]:
    """Of the embedded stack, a worker for the while, for each queue that has none."""
    from embedfleet.liveness import will_have_worker
    from embedfleet.local_workers import workers
    from embedfleet.planning import named_space

    spaces = [named_space(each) for each in models] or [collection.info.space]
    lacking = {fleet.queue_for(space) for space in spaces}
    with ExitStack() as stack:
        for queue in sorted(lacking) if fleet.settings.uses_embedded_stack else ():
            if not will_have_worker(fleet, queue):
                note(f"starting a worker on queue {queue}")
                stack.enter_context(workers(fleet.settings.data, 1, queue=queue))
        yield


def _show(found: Evaluation) -> None:
    how = "words and vectors" if found.hybrid else "vectors"
    count = (
        quantity(found.queries, "sentence")
        if found.known_items
        else quantity(found.queries, "query", "queries")
    )
    say(f"{found.collection}: {found.model}, {count}, by {how}")
    for name, value in (
        ("nDCG@10", found.ndcg),
        (f"recall@{found.k}", found.recall),
        ("MRR", found.mrr),
    ):
        say(f"{name:12} {value:.4f}")
    _notes(found)


def _notes(found: Evaluation) -> None:
    if found.known_items:
        note(KNOWN_ITEMS)
    if found.missing:
        note(
            f"{found.missing:,} of {quantity(found.relevant, 'relevant document')} are not in the"
            " collection, and count as not found"
        )
    for count, what in (
        (found.without_judgement, "without judgements were left out"),
        (found.without_text, "have judgements and no text, and were left out"),
        (found.unreadable, "cannot be read by the model, and found nothing"),
    ):
        if count and not found.known_items:
            note(f"{count:,} queries {what}")


def _show_side_by_side(compared: Sequence[Compared]) -> None:
    first = compared[0]
    columns = (
        "model",
        "#width",
        "#chunk size",
        "#chunks",
        "#nDCG@10",
        f"#recall@{first.evaluation.k}",
        "#MRR",
        "#chunks/s",
        "#bytes/chunk",
        "#USD",
    )
    rows = [
        [
            each.model,
            str(each.dimensions),
            str(each.size),
            f"{each.chunks:,}",
            f"{each.evaluation.ndcg:.4f}",
            f"{each.evaluation.recall:.4f}",
            f"{each.evaluation.mrr:.4f}",
            "unknown" if each.chunks_per_s is None else f"{each.chunks_per_s:,.1f}",
            f"{each.bytes_per_chunk:,.0f}",
            "unknown" if each.usd is None else money(each.usd),
        ]
        for each in compared
    ]
    terminal().print(table(columns, rows))
    queries = quantity(first.evaluation.queries, "query", "queries")
    say(f"{quantity(first.documents, 'document')}, {queries}")
    if any(each.chunks_per_s is None for each in compared):
        note("A speed is unknown where each worker embedded one batch only: take a larger --sample")
    if first.ready_made:
        note(
            f"{quantity(first.ready_made, 'document')} came in ready-made chunks, which stay"
            " as they are"
        )
    for each in compared:
        if each.failed:
            note(f"{each.model} cannot embed {quantity(each.failed, 'chunk')}")
    _notes(first.evaluation)
