"""`demo`: a real job on text that every Python carries."""

from __future__ import annotations

from typing import Annotated

import typer

from embedfleet.cli.output import print_json, terminal
from embedfleet.cli.parameters import Json
from embedfleet.cli.session import session

All = Annotated[
    bool, typer.Option("--all", help="Embed the whole library instead of about 1,000 chunks.")
]
Model = Annotated[str | None, typer.Option(help="Name on the hub, directory, or provider/name.")]
Workers = Annotated[int, typer.Option(min=1, max=64, help="How many cpu workers.")]
# For tests: None is the demo's own choice.
Chunks = Annotated[int | None, typer.Option(min=1, hidden=True)]


def add_to(app: typer.Typer) -> None:
    app.command()(demo)


def demo(
    context: typer.Context,
    everything: All = False,
    model: Model = None,
    workers: Workers = 2,
    chunks: Chunks = None,
    json: Json = False,
) -> None:
    """Embed the docstrings of Python's library and search them."""
    from embedfleet.demo import CHUNKS, run_demo

    here = session(context)
    here.listen_to_logs()
    answers = run_demo(
        here.settings(),
        console=terminal(stderr=json),
        chunks=None if everything else chunks or CHUNKS,
        model=model,
        workers=workers,
    )
    if json:
        print_json(answers)
