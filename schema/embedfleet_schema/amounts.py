"""Amounts as people say them."""

from __future__ import annotations

from decimal import Decimal
from math import floor, log10

_THOUSAND = 1_000


def money(usd: float | Decimal) -> str:
    """An amount with its cents, or with two digits that say something where it is less."""
    amount = float(usd)
    places = 2 if not amount or abs(amount) >= 1 else 1 - floor(log10(abs(amount)))
    return f"${usd:,.{max(places, 2)}f}"


def quantity(number: int, one: str, many: str = "") -> str:
    """A number of things: "1 worker", "2,000 workers"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def volume(count: int) -> str:
    """A number of bytes as people say it."""
    amount, units = float(count), ["bytes", "kB", "MB", "GB", "TB"]
    while amount >= _THOUSAND and len(units) > 1:
        amount, units = amount / _THOUSAND, units[1:]
    return f"{amount:,.0f} {units[0]}" if units[0] == "bytes" else f"{amount:,.1f} {units[0]}"
