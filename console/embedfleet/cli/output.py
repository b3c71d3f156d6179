"""What the commands print: data on standard output, everything else on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, is_dataclass
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from embedfleet.cli.listing import Listing
    from embedfleet_schema.store.jobs import JobStatus

# Control characters but tab and newline: a document must not steer the terminal that shows it.
_CONTROLS = {code: "\ufffd" for code in (*range(32), *range(127, 160)) if code not in (9, 10)}
# A pipe has no width, and what reads from it wants whole lines.
_PIPE_COLUMNS = 10_000


def say(text: str) -> None:
    """A line of data."""
    typer.echo(plain(text))


def note(text: str) -> None:
    """A line for the person at the terminal: a step, a hint, an error."""
    typer.echo(plain(text), err=True)


def plain(text: str) -> str:
    """The text without characters that act on a terminal."""
    return text.translate(_CONTROLS)


def one_line(text: str) -> str:
    return " ".join(plain(text).split())


def print_json(value: object, *, indent: int | None = 2) -> None:
    """A value as JSON; dataclasses become objects."""
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    typer.echo(json.dumps(value, indent=indent, default=_jsonable, ensure_ascii=encoding != "utf8"))


def terminal(*, stderr: bool = False) -> Console:
    """Where tables are printed."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, stderr=stderr)
    if not console.is_terminal:
        console.width = _PIPE_COLUMNS
    return console


def table(
    columns: Sequence[str], rows: Iterable[Sequence[RenderableType]], *, title: str = ""
) -> Listing:
    """Rows without lines around them; names of columns that start with `#` are numbers."""
    from rich.text import Text

    from embedfleet.cli.listing import Listing

    shown = (
        [Text(one_line(cell)) if isinstance(cell, str) else cell for cell in row] for row in rows
    )
    return Listing(columns, shown, title)


def _jsonable(value: object) -> Any:  # noqa: ANN401 - whatever json.dumps takes
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, date):  # datetimes are dates
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    return str(value)


def status_json(status: JobStatus) -> dict[str, Any]:
    """A job as `--json` shows it."""
    return asdict(status) | {"total": status.total, "finished": status.finished}
