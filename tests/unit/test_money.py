"""Money for people: what is not nothing is never shown as nothing."""

import re
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from embedfleet_schema.money import money

ROOT = Path(__file__).parents[2]
SOURCES = [
    path
    for folder in ("schema", "producer", "workers", "console")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".py", ".sql"} and path.name != "money.py"
]
# A dollar sign before a value: f"${x}", f"${{x}}" of a template, format('$%s'), '$' || x.
OF_ITS_OWN = re.compile(r"""\$\{|\$%|['"]\$['"]\s*(\|\||\+)""")


@pytest.mark.parametrize(
    ("usd", "expected"),
    [
        (0, "$0.00"),
        (1, "$1.00"),
        (2.5, "$2.50"),
        (1234.567, "$1,234.57"),
        (0.05, "$0.05"),
        (0.0996, "$0.10"),
        (0.0123, "$0.012"),
        (0.004, "$0.004"),
        (0.0004, "$0.0004"),
        (0.00000456, "$0.0000046"),
        (Decimal("0.02469134"), "$0.025"),
        (Decimal("-0.004"), "$-0.004"),
    ],
)
def test_an_amount_has_its_cents_or_two_digits_that_say_something(usd, expected):
    assert expected == money(usd)


@pytest.mark.parametrize(
    ("usd", "expected"), [(0.02, "$0.02"), (0.125, "$0.125"), (12.5, "$12.50"), (1e-5, "$0.00001")]
)
def test_a_price_has_more_digits(usd, expected):
    assert expected == money(usd, digits=6)


@given(st.decimals(0, 10**9, places=12) | st.floats(0, 1e9, allow_subnormal=False))
@example(Decimal("0.0000004"))
@example(0.009999)
def test_what_is_shown_is_near_and_nothing_only_where_it_is(usd):
    shown = Decimal(money(usd).removeprefix("$").replace(",", ""))
    assert (shown == 0) == (usd == 0)
    assert abs(shown - Decimal(usd)) <= min(
        Decimal("0.0050001"), Decimal("0.0500001") * Decimal(usd)
    )


def test_money_is_written_in_one_place():
    found = [str(path.relative_to(ROOT)) for path in SOURCES if OF_ITS_OWN.search(path.read_text())]
    assert [] == found
