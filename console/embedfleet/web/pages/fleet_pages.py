"""The fleet as a whole: what runs, who works, which limits hold, what it cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from decimal import Decimal

from embedfleet.cli.overview import Overview
from embedfleet.web.pages.plots import Plot, columns
from embedfleet.web.pages.rendering import Page, Redirect, at
from embedfleet.web.pages.visits import Visit
from embedfleet_schema.amounts import quantity
from embedfleet_schema.money import money as dollars
from embedfleet_schema.store import pages
from embedfleet_schema.store.pages import Minute
from embedfleet_schema.store.usage import UsageOfDay
from embedfleet_schema.types import serving

JOBS, FAILING = 10, 5
DAYS, MOST_DAYS = 30, 366
MOST_LIMITS = 50
# Rows of a table on one page.
MOST_ROWS = 500


def overview(visit: Visit) -> Page:
    """What runs, what stands still, and the last hour."""
    seen = Overview.of(visit.fleet, limit=JOBS)
    return Page(
        "overview.html",
        {
            "overview": seen,
            "unserved": _unserved(seen),
            "plots": hour(pages.minutes(visit.fleet.db)),
            "failing": pages.failing(visit.fleet.db, limit=FAILING),
        },
    )


def workers(visit: Visit) -> Page:
    """Queues, and who serves them by which engine."""
    seen = Overview.of(visit.fleet, limit=1)
    serve = {
        queue: sum(queue in worker.queues for worker in seen.alive)
        for queue in {serving(each.queue, each.delivery) for each in seen.queues}
    }
    told = {"overview": seen, "serve": serve, "serving": serving, "most": MOST_ROWS}
    return Page("workers.html", told)


def limits(visit: Visit) -> Page:
    """Each limit, how it is used, and who waits for it."""
    return Page("limits.html", {"found": visit.fleet.limits.show(), "most": MOST_LIMITS})


def money(visit: Visit) -> Page:
    """What was spent, by day and model."""
    days = visit.number("days", DAYS, most=MOST_DAYS) or DAYS
    found = visit.fleet.usage(days=days)
    known = [each.usd for each in found if each.usd is not None]
    return Page(
        "money.html",
        {
            "days": days,
            "rows": found[:MOST_ROWS],
            "left_out": max(0, len(found) - MOST_ROWS),
            "total": sum(known, Decimal(0)),
            "unpriced": sum(each.tokens for each in found if each.usd is None),
            "plots": _by_day(found, days) if found else [],
        },
    )


def resume_model(visit: Visit) -> Redirect:
    """Let a paused model go on."""
    visit.fleet.resume(visit.text("model"))
    return Redirect(at("overview"))


def hour(minutes: Sequence[Minute]) -> list[Plot]:
    """The plots of the last hour."""
    return [
        _of_minutes("Texts embedded", minutes, lambda each: each.embedded),
        _of_minutes("Tokens embedded", minutes, lambda each: each.tokens),
        _of_minutes("Texts failed", minutes, lambda each: each.failed),
    ]


def _of_minutes(title: str, minutes: Sequence[Minute], amount: Callable[[Minute], int]) -> Plot:
    amounts = [amount(each) for each in minutes]
    names = ["now" if not each.ago else f"{each.ago} min ago" for each in minutes]
    return columns(
        f"{title} per minute",
        amounts,
        names,
        [f"{each:,}" for each in amounts],
        summary=f"{sum(amounts):,} in the last hour, at most {max(amounts, default=0):,} a minute",
    )


def _unserved(seen: Overview) -> list[str]:
    """Queues in which batches are ready, and that no worker serves."""
    ready = {serving(each.queue, each.delivery) for each in seen.queues if each.ready}
    return sorted(
        queue for queue in ready if not any(queue in worker.queues for worker in seen.alive)
    )


def _by_day(found: Sequence[UsageOfDay], days: int) -> list[Plot]:
    """Money and tokens of each day (UTC), the days without any among them."""
    last = found[0].day
    all_days = [last - timedelta(days=ago) for ago in reversed(range(days))]
    spent: dict[date, Decimal] = defaultdict(Decimal)
    tokens: dict[date, int] = defaultdict(int)
    for each in found:
        spent[each.day] += each.usd or 0
        tokens[each.day] += each.tokens
    names = [day.isoformat() for day in all_days]
    usd = [spent[day] for day in all_days]
    counts = [tokens[day] for day in all_days]
    span = quantity(days, "day")
    return [
        columns(
            "USD per day",
            [float(each) for each in usd],
            names,
            [dollars(each) for each in usd],
            summary=f"{dollars(sum(usd, Decimal(0)))} in {span}, at most {dollars(max(usd))} a day",
        ),
        columns(
            "Tokens per day",
            counts,
            names,
            [f"{each:,}" for each in counts],
            summary=f"{sum(counts):,} in {span}, at most {max(counts):,} a day",
        ),
    ]
