"""Money as people say it, in every message and on every page."""

from __future__ import annotations

from decimal import Decimal
from math import floor, log10

from embedfleet_schema.errors import UsageError


def money(usd: float | Decimal, *, digits: int = 2) -> str:
    """An amount of USD with its cents, or with as many digits that say something where it is less.

    So it is $0.00 only where it is nothing.
    """
    places = digits - 1 - floor(log10(abs(float(usd)))) if usd else 2
    whole, _, rest = f"{usd:,.{max(places, 2)}f}".partition(".")
    return f"${whole}.{rest[:2]}{rest[2:].rstrip('0')}"


def budget_of(usd: float | Decimal | None) -> Decimal | None:
    """A budget by way of the digits that a person wrote.

    Raises:
        UsageError: it is no amount above 0.
    """
    if usd is not None and not 0 < usd < float("1e308"):
        shown = "inf" if usd > 1 else usd  # of thousands of digits no message can be made
        raise UsageError(reason=f"a budget is an amount above 0 USD, not {shown}")
    return None if usd is None else Decimal(str(usd))
