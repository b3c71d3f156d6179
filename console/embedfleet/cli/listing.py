"""Rows for a terminal of any width: a table where it fits, else one line for each value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text


class Listing:
    """Rows under named columns; nothing of them is ever abbreviated."""

    def __init__(
        self, columns: Sequence[str], rows: Iterable[Sequence[RenderableType]], title: str = ""
    ) -> None:
        """Columns whose names start with `#` are numbers, to the right."""
        self._columns = list(columns)
        self._rows = [list(row) for row in rows]
        self._title = title

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = self._lines() or self._table()
        unbounded = options.update(width=100_000)
        if Measurement.get(console, unbounded, table).maximum <= options.max_width:
            yield table
            return
        if self._title:
            yield Text(self._title, style="bold")
        for row in self._rows:
            yield self._record(row)

    def _lines(self) -> Text | None:
        """A table of nothing but texts, as lines: rich takes a tenth of the time, which is seconds
        where there are thousands of rows.
        """
        cells = [[name.removeprefix("#") for name in self._columns]]
        for row in self._rows:
            if not all(isinstance(cell, Text) for cell in row):
                return None
            cells.append([str(cell) for cell in row])
        widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
        head, *lines = ("  ".join(self._padded(row, widths)) for row in cells)
        shown = Text(no_wrap=True, end="")
        if self._title:
            shown.append(f"{self._title}\n", style="bold")
        shown.append(f"{head}\n", style="bold")
        return shown.append("".join(f"{line}\n" for line in lines))

    def _padded(self, row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
        for name, cell, width in zip(self._columns, row, widths, strict=True):
            space = " " * (width - cell_len(cell))
            yield space + cell if name.startswith("#") else cell + space

    def _table(self) -> Table:
        made = Table(
            title=self._title or None,
            title_justify="left",
            title_style="bold",
            box=None,
            pad_edge=False,
        )
        for name in self._columns:
            is_number = name.startswith("#")
            made.add_column(name.removeprefix("#"), justify="right" if is_number else "left")
        for row in self._rows:
            made.add_row(*row)
        return made

    def _record(self, row: Sequence[RenderableType]) -> Table:
        """A row as lines of name and value, and an empty line."""
        made = Table.grid(padding=(0, 2, 0, 0))
        made.add_column(no_wrap=True)
        made.add_column(overflow="fold")
        for name, value in zip(self._columns, row, strict=True):
            if str(value):
                made.add_row(name.removeprefix("#"), value)
        made.add_row("", "")
        return made
