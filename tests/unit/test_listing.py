"""Tables on terminals of any width."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from embedfleet.cli.output import table
from embedfleet_schema.amounts import quantity

CELL = st.text(st.characters(categories=["Ll", "Nd"], max_codepoint=127), max_size=90)


def printed(width: int, columns: list[str], rows: list[list[str]]) -> str:
    console = Console(width=width, highlight=False, markup=False)
    with console.capture() as shown:
        console.print(table(columns, rows, title="Jobs"))
    return shown.get()


@given(
    st.integers(30, 200),
    st.integers(1, 9).flatmap(
        lambda n: st.lists(st.lists(CELL, min_size=n, max_size=n), min_size=1, max_size=3)
    ),
)
def test_nothing_is_abbreviated_at_any_width(width: int, rows: list[list[str]]):
    columns = [f"#column {n}" if n % 2 else f"column {n}" for n in range(len(rows[0]))]
    shown = printed(width, columns, rows)
    squeezed = "".join(shown.split())
    assert "…" not in shown
    assert all(len(line) <= width for line in shown.splitlines())
    assert all(cell in squeezed for row in rows for cell in row)


def test_what_fits_is_a_table_and_what_does_not_is_lines():
    rows = [["1", "handbook", "x" * 40], ["2", "notes", ""]]
    wide = printed(80, ["#job", "collection", "waits for"], rows).splitlines()
    assert "job  collection  waits for" == wide[1].rstrip()
    narrow = printed(50, ["#job", "collection", "waits for"], rows)
    assert "job         1" in narrow
    assert f"waits for   {'x' * 38}" in narrow
    assert 1 == narrow.count("waits for"), "an empty value has no line"


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0 workers"), (1, "1 worker"), (2_000, "2,000 workers")]
)
def test_one_thing_is_singular(number: int, said: str):
    assert said == quantity(number, "worker")
