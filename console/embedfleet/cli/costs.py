"""Costs: what enqueueing would cost, and what was spent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.collections import Cutting, Dimensions, MaxTokens
from embedfleet.cli.option_groups import ungrouped
from embedfleet.cli.output import (
    note,
    one_line,
    print_json,
    say,
    table,
    terminal,
)
from embedfleet.cli.parameters import Json, Name
from embedfleet.cli.reading import (
    EXAMPLES,
    Mirror,
    Paths,
    Reading,
    Replace,
    note_shapes,
    read,
    report_json,
    say_rejections,
    say_report,
)
from embedfleet.cli.session import session
from embedfleet_schema.amounts import quantity, volume
from embedfleet_schema.catalogue.api_models import PRICES_AS_OF
from embedfleet_schema.catalogue.provider_batch_prices import PRICE_SHARE, has_batch_api
from embedfleet_schema.money import money

if TYPE_CHECKING:
    from embedfleet import Plan
    from embedfleet.cli.listing import Listing
    from embedfleet_producer.plan import Counted

BASES = {
    "limits": "at your rate limits",
    "history": "at the speed of the model's newest job, loading time not counted",
    "measured": "measured now with one process on this machine",
}

Model = Annotated[str | None, typer.Option(help="The model, if the collection does not exist yet.")]
Compare = Annotated[
    str,
    typer.Option(
        metavar="MODEL,MODEL", help="Other models to compare; MODEL@DIMENSIONS sets the dimensions."
    ),
]
Days = Annotated[int, typer.Option(min=1, max=36_500, help="Number of days, including today.")]


def add_to(app: typer.Typer) -> None:
    app.command()(ungrouped(plan))
    app.command()(usage)


def plan(
    context: typer.Context,
    name: Name,
    paths: Paths,
    *,
    model: Model = None,
    dimensions: Dimensions = None,
    max_tokens: MaxTokens = None,
    cutting: Cutting,
    compare: Compare = "",
    reading: Reading,
    replace: Replace = False,
    mirror: Mirror = False,
    json: Json = False,
) -> None:
    """Say what enqueueing would do, cost and take. Nothing is written or spent."""
    from embedfleet import ReadReport

    here = session(context)
    report = ReadReport()
    documents = read(here.settings(), paths, reading, report)
    with here.fleet(looks_only=True) as fleet, _progress() as show:
        plans = fleet.plan(
            name,
            documents,
            model,
            compare=[each.strip() for each in compare.split(",") if each.strip()],
            chunking=cutting.chunking(),
            dimensions=dimensions,
            max_tokens=max_tokens,
            replace=replace,
            mirror=mirror,
            on_window=show,
        )
    if json:
        print_json([asdict(each) | {"read": report_json(report)} for each in plans])
    else:
        note_shapes(report)
        _print(plans, batched=has_batch_api(plans[0].model, here.settings()))
        say_report(report)
    first = plans[0]
    if first.rejected and not first.documents + first.unchanged:
        note("None of these documents would be accepted")
        raise typer.Exit(1)


def usage(context: typer.Context, days: Days = 30, json: Json = False) -> None:
    """Show what was spent, by day (UTC) and model, as the providers counted."""
    with session(context).fleet(looks_only=True) as fleet:
        found = fleet.usage(days=days)
    if json:
        print_json(found)
        return
    if not found:
        note(f"Nothing was spent in the last {quantity(days, 'day')}")
        return
    rows = [
        [
            each.day.isoformat(),
            each.model,
            f"{each.requests:,}",
            f"{each.texts:,}",
            f"{each.tokens:,}",
            "unknown" if each.usd is None else money(each.usd),
        ]
        for each in found
    ]
    columns = ("day", "model", "#requests", "#texts", "#tokens", "#USD")
    terminal().print(table(columns, rows))
    known = [each.usd for each in found if each.usd is not None]
    if known:
        say(f"{money(sum(known))} in {quantity(days, 'day')}")


@contextmanager
def _progress() -> Iterator[Callable[[Counted], None]]:
    from embedfleet.progress import activity

    with activity("reading") as tell:

        def show(counted: Counted) -> None:
            read = quantity(counted.documents + counted.unchanged, "document")
            tell(f"counted {read}, {quantity(counted.chunks, 'chunk')}")

        yield show


def say_plan(plan: Plan) -> None:
    """A plan of what is stored already."""
    for line in plan_lines(plan, batched=False):
        say(line)
    _note_unknown([plan])


def _print(plans: Sequence[Plan], *, batched: bool) -> None:
    first = plans[0]
    for line in plan_lines(first, batched=batched):
        say(line)
    say_rejections(first.rejections, first.rejected)
    if len(plans) > 1:
        say("")
        terminal().print(_side_by_side(plans))
    _note_unknown(plans)


def _note_unknown(plans: Sequence[Plan]) -> None:
    for each in plans:
        if each.usd_per_million is None:
            price = f"'{{\"{each.model}\": USD per million tokens}}'"
            note(f"The price of {each.model} is not known. Set EMBEDFLEET_PRICES={price}")
    if any(each.approximate for each in plans):
        note("Tokens marked ~ are estimates: the model's tokenizer is not available here")


def plan_lines(plan: Plan, *, batched: bool) -> Iterator[str]:
    """A plan in words."""
    yield f"{plan.collection}: {plan.model}, {quantity(plan.dimensions, 'dimension')}"
    yield (
        f"{quantity(plan.documents, 'document')} new or changed, {plan.unchanged:,} unchanged, "
        f"{plan.rejected:,} rejected"
    )
    yield (
        f"{quantity(plan.chunks, 'chunk')}, {quantity(plan.texts, 'distinct text')}, "
        f"{_tokens(plan, plan.tokens)} tokens"
    )
    yield (
        f"{quantity(plan.stored, 'text')} stored already, {plan.elsewhere:,} in another collection "
        f"of the same space, {plan.to_embed:,} to embed"
    )
    if plan.failed:
        yield f"{quantity(plan.failed, 'text')} would fail: {plan.model} cannot embed them"
    yield f"you pay for {_tokens(plan, plan.tokens_to_pay)} tokens: {_price(plan)}"
    if plan.usd and batched:
        yield f"with --provider-batches: {money(PRICE_SHARE * plan.usd)}, within a day"
    if plan.to_delete:
        keys = ", ".join(map(one_line, plan.deletions[:EXAMPLES]))
        more = f" and {plan.to_delete - EXAMPLES:,} more" if plan.to_delete > EXAMPLES else ""
        yield f"{quantity(plan.to_delete, 'document')} to delete: {keys}{more}"
    if plan.undeleted:
        yield f"nothing would be deleted: {one_line(plan.undeleted)}"
    yield f"time: {_time(plan)}"
    yield f"on disk: {volume(plan.vector_bytes)} of vectors, without an index"


def _side_by_side(plans: Sequence[Plan]) -> Listing:
    from embedfleet.progress import duration

    columns = ("model", "#width", "#chunks", "#tokens", "#to pay", "#USD", "#vectors", "#time")
    rows = [
        [
            plan.model,
            str(plan.dimensions),
            f"{plan.chunks:,}",
            _tokens(plan, plan.tokens),
            _tokens(plan, plan.tokens_to_pay),
            "unknown" if plan.usd is None else money(plan.usd),
            volume(plan.vector_bytes),
            "unknown" if plan.seconds is None else duration(plan.seconds),
        ]
        for plan in plans
    ]
    return table(columns, rows)


def _tokens(plan: Plan, tokens: int) -> str:
    return f"~{tokens:,}" if plan.approximate else f"{tokens:,}"


def _price(plan: Plan) -> str:
    if plan.usd is None:
        return "price unknown"
    if not plan.usd_per_million:
        return "on your own machines"
    rate = f"{money(plan.usd_per_million, digits=6)} per million tokens"
    return f"{money(plan.usd)} ({rate}; the built-in prices are of {PRICES_AS_OF})"


def _time(plan: Plan) -> str:
    from embedfleet.progress import duration

    if plan.seconds is None:
        return f"unknown until {plan.model} has embedded more than one batch per worker"
    how = BASES.get(plan.basis)
    return f"{duration(plan.seconds)}, {how}" if how else "nothing to do"
