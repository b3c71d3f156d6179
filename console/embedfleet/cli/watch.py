"""`watch`: the fleet at a glance, again and again."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.output import print_json, say, terminal
from embedfleet.cli.parameters import Json
from embedfleet.cli.session import session
from embedfleet.polling import rest_s, timed

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from embedfleet import Fleet
    from embedfleet.cli.overview import Overview

TERMINAL_SECONDS = 1.0
LINES_SECONDS = 5.0

Interval = Annotated[
    float | None, typer.Option(min=0.1, max=3_600, help="Seconds between updates.")
]


def add_to(app: typer.Typer) -> None:
    app.command()(watch)


def watch(context: typer.Context, interval: Interval = None, json: Json = False) -> None:
    """Watch jobs, queues and workers until Ctrl-C."""
    console = terminal()
    with session(context).fleet(looks_only=True) as fleet:
        try:
            if console.is_terminal and not json:
                _live(fleet, console, interval or TERMINAL_SECONDS)
            else:
                _lines(fleet, interval or LINES_SECONDS, json=json)
        except KeyboardInterrupt:
            return  # the way to end it


def _live(fleet: Fleet, console: Console, interval: float) -> None:
    from rich.live import Live

    from embedfleet.cli.overview import Overview

    picture, looked_s = timed(lambda: _picture(Overview.of(fleet)))
    with Live(picture, console=console, auto_refresh=False) as live:
        while True:
            time.sleep(rest_s(interval, looked_s))
            picture, looked_s = timed(lambda: _picture(Overview.of(fleet)))
            live.update(picture, refresh=True)


def _lines(fleet: Fleet, interval: float, *, json: bool) -> None:
    from embedfleet.cli.overview import Overview

    while True:
        overview, looked_s = timed(lambda: Overview.of(fleet))
        if json:
            print_json(overview.as_json(), indent=None)
        else:
            now = datetime.now().astimezone().strftime("%H:%M:%S")
            for line in overview.lines():
                say(f"{now} {line}")
        time.sleep(rest_s(interval, looked_s))


def _picture(overview: Overview) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from embedfleet.cli.overview import tables

    total = Text(f"{overview.chunks_per_second:,.1f} chunks/s. Ctrl-C only ends this view.")
    return Group(*tables(overview, bars=True), Text(""), total)
