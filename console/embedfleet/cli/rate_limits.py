"""Limits: what a provider allows, and how the fleet keeps to it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.output import note, print_json, say, table, terminal
from embedfleet.cli.parameters import Json, unicode_text
from embedfleet.cli.session import session
from embedfleet_schema.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from embedfleet.limits import Limit

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A model behind an API, such as openai/text-embedding-3-small.",
        callback=unicode_text,
    ),
]
OneModel = Annotated[str | None, typer.Argument(metavar="MODEL", help="Show only this model.")]
PerMinute = Annotated[float | None, typer.Option(help="Limit per minute.", metavar="NUMBER")]
AtOnce = Annotated[int | None, typer.Option(min=1, help="Requests at the same time.")]
Account = Annotated[
    str | None,
    typer.Option(metavar="HASH", help="Only for this account, as `limits show` names it."),
]
Group = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Put the model in a group: its models share one limit."),
]


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(help="Set and show the rate limits of providers.", rich_markup_mode=None)
    group.command("set")(set_limits)
    group.command()(show)
    group.command()(clear)
    app.add_typer(group, name="limits")


def set_limits(
    context: typer.Context,
    model: Model,
    *,
    requests: PerMinute = None,
    tokens: PerMinute = None,
    inputs: PerMinute = None,
    concurrency: AtOnce = None,
    account: Account = None,
    group: Group = None,
    json: Json = False,
) -> None:
    """Set what a provider allows. Running workers apply it within seconds."""
    given = {
        "requests": requests,
        "tokens": tokens,
        "inputs": inputs,
        "concurrency": concurrency,
    }
    amounts = {name: float(amount) for name, amount in given.items() if amount is not None}
    if not amounts and group is None:
        reason = "give a limit: --requests, --tokens, --inputs or --concurrency"
        raise UsageError(reason=reason)
    if any(not 0 < amount < float("inf") for amount in amounts.values()):
        raise UsageError(reason="a limit is a number above 0")
    _check_account(account)
    with session(context).fleet() as fleet:
        fleet.limits.set(model, amounts, account=account, group=group)
    if json:
        print_json({"model": model, "account": account, "group": group, "limits": amounts})
        return
    words = [_words(name, amount) for name, amount in amounts.items()]
    if group is not None:
        words.append(f"draws on the limit of group {group}")
    say(f"{model}: {', '.join(words)}")


def show(context: typer.Context, model: OneModel = None, json: Json = False) -> None:
    """Show limits, their use, who waits, and what is paused and why."""
    with session(context).fleet(looks_only=True) as fleet:
        found = fleet.limits.show(model)
    if json:
        print_json([each.as_json() for each in found.limits])
    elif found.limits:
        terminal().print(table(COLUMNS, [row for each in found.limits for row in _rows(each)]))
        for each in found.limits:
            for line in _remarks(each):
                say(line)
    else:
        say("no limits are set, and no provider has been called yet")
        note("Set one: embedfleet limits set openai/text-embedding-3-small --tokens 1000000")
    if not found.live:
        note("Redis does not answer: these are the limits that were set, without their use.")


def clear(
    context: typer.Context, model: Model, account: Account = None, json: Json = False
) -> None:
    """Remove the limits that were set for a model, and take it out of its group."""
    _check_account(account)
    with session(context).fleet() as fleet:
        removed = fleet.limits.clear(model, account=account)
    if json:
        print_json({"model": model, "account": account, "cleared": bool(removed)})
        return
    say(f"{model}: {'nothing is set any more' if removed else 'nothing was set'}")


COLUMNS = [
    "limit",
    "account",
    "counts",
    "#set",
    "#seen",
    "#learnt",
    "#kept to",
    "#last minute",
    "#waits, s",
    "#others",
]


def _rows(limit: Limit) -> Iterator[list[RenderableType]]:
    for name, each in limit.dimensions.items():
        yield [
            limit.name,
            limit.account or "all",
            name,
            _number(each.quota),
            _number(each.seen),
            _number(each.learnt),
            _number(each.effective),
            _number(each.used),
            "" if each.ahead_s is None else f"{each.ahead_s:.1f}",
            f"{each.foreign:.0%}" if each.foreign else "",
        ]


def _remarks(limit: Limit) -> Iterator[str]:
    subject = f"{limit.name}, account {limit.account or 'all'}"
    if limit.stopped is not None:
        yield f"{subject}: stopped by {limit.stopped_by}: {limit.stopped}"
    if limit.paused_s > 0:
        paused = f"paused for {limit.paused_s:.1f} s by {limit.paused_by}"
        yield f"{subject}: {paused}: {limit.paused_why}"
    if limit.slowed_to < 1:
        yield f"{subject}: slowed to {limit.slowed_to:.0%} after 429s, and growing again"
    if limit.advice is not None:
        yield limit.advice
    if limit.in_flight or limit.waiting:
        yield f"{subject}: {limit.in_flight} under way, {limit.waiting} wait for a place"


def _words(name: str, amount: float) -> str:
    return f"{amount:,.0f} requests at once" if name == "concurrency" else f"{amount:,g} {name}/min"


def _number(amount: float | None) -> str:
    return "" if not amount else f"{amount:,.0f}"


def _check_account(account: str | None) -> None:
    if account is not None and not re.fullmatch("[0-9a-f]{16}", account):
        reason = (
            f"{account!a} is not an account: write its sixteen digits of "
            "0-9a-f, as limits show names it"
        )
        raise UsageError(reason=reason)
