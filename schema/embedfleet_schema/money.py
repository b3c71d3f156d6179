"""Money as people say it, in every message and on every page."""

from __future__ import annotations

from decimal import Decimal
from math import floor, log10


def money(usd: float | Decimal, *, digits: int = 2) -> str:
    """An amount of USD with its cents, or with as many digits that say something where it is less.

    So it is $0.00 only where it is nothing.
    """
    places = digits - 1 - floor(log10(abs(float(usd)))) if usd else 2
    whole, _, rest = f"{usd:,.{max(places, 2)}f}".partition(".")
    return f"${whole}.{rest[:2]}{rest[2:].rstrip('0')}"
