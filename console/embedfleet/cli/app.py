"""The application: global options, and the commands in the order of a first visit."""

from __future__ import annotations

from importlib.metadata import version as version_of
from pathlib import Path
from typing import Annotated

import typer

from embedfleet.cli import (
    collections,
    contents,
    costs,
    demonstration,
    doctor,
    documents,
    evaluating,
    exchange,
    indexing,
    jobs,
    mapping,
    rate_limits,
    repairs,
    search,
    stack,
    syncing,
    tuning,
    watch,
    workers,
)
from embedfleet.cli.output import say
from embedfleet.cli.parameters import path_text
from embedfleet.cli.session import Session

# Without markup Typer needs no rich to print help, which halves the time until it is there.
app = typer.Typer(
    name="embedfleet",
    help="Turn documents into pgvector rows with a fleet of Celery workers.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        say(f"embedfleet {version_of('embedfleet')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def open_session(
    context: typer.Context,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the embedded stack.",
            envvar="EMBEDFLEET_DATA",
            parser=lambda text: Path(path_text(text)),
            metavar="FOLDER",
        ),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and the log.")] = False,
    _version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_show_version, help="Print the version."),
    ] = False,
) -> None:
    """Turn documents into pgvector rows with a fleet of Celery workers."""
    source = context.get_parameter_source("data")
    typed = source is not None and source.name == "COMMANDLINE"
    context.obj = Session(data=data, debug=debug, typed=typed)
    if context.invoked_subcommand is None:
        say(context.get_help())


for module in (
    demonstration,
    stack,
    collections,
    indexing,
    costs,
    documents,
    exchange,
    contents,
    syncing,
    search,
    evaluating,
    mapping,
    jobs,
    rate_limits,
    watch,
    workers,
    tuning,
    repairs,
    doctor,
):
    module.add_to(app)
