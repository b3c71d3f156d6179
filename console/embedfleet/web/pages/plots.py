"""Plots as numbers for SVG: columns over time, points of a map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 600, 120
# Between columns, as a share of what each has.
_GAP = 0.2


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a plot, in the units of its drawing; `says` is shown where one points at it."""

    x: float
    y: float
    width: float
    height: float
    says: str


@dataclass(frozen=True, slots=True)
class Plot:
    """Columns from left to right, with what a person who does not see them is told."""

    title: str
    summary: str
    highest: str
    first: str
    last: str
    columns: Sequence[Column]
    width: int = WIDTH
    height: int = HEIGHT


def columns(
    title: str,
    amounts: Sequence[float],
    names: Sequence[str],
    shown: Sequence[str],
    *,
    summary: str,
) -> Plot:
    """A plot of amounts that are 0 or more, each with its name and as it is written."""
    highest = max(amounts, default=0)
    room = WIDTH / max(len(amounts), 1)
    drawn = []
    for number, amount in enumerate(amounts):
        # What is not nothing can be seen.
        height = max(amount / highest * HEIGHT, 1.0) if amount else 0.0
        drawn.append(
            Column(
                round(number * room, 2),
                round(HEIGHT - height, 2),
                round(room * (1 - _GAP), 2),
                round(height, 2),
                f"{names[number]}: {shown[number]}",
            )
        )
    return Plot(
        title=title,
        summary=summary,
        highest=shown[list(amounts).index(highest)] if amounts else "0",
        first=names[0] if names else "",
        last=names[-1] if names else "",
        columns=drawn,
    )
