"""The application: global options, and the commands in the order of a first visit."""

from __future__ import annotations

from importlib.metadata import version as version_of
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from embedfleet.cli import (
    collections,
    console,
    contents,
    costs,
    demonstration,
    doctor,
    documents,
    evaluating,
    exchange,
    indexing,
    jobs,
    keys,
    mapping,
    mcp,
    pgai,
    rate_limits,
    repairs,
    search,
    stack,
    syncing,
    tenants,
    tuning,
    watch,
    workers,
)
from embedfleet.cli.output import say
from embedfleet.cli.parameters import path_text
from embedfleet.cli.session import Session


class TwoWords(TyperGroup):
    """`import pgai` is a command of its own beside `import FILE`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 - typer's own
        name = " ".join(args[:2])
        return super().resolve_command(ctx, [name, *args[2:]] if name in self.commands else args)


# Without markup Typer needs no rich to print help, which halves the time until it is there.
app = typer.Typer(
    name="embedfleet",
    cls=TwoWords,
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
    pgai,
    contents,
    syncing,
    search,
    evaluating,
    mapping,
    jobs,
    rate_limits,
    tenants,
    watch,
    workers,
    console,
    keys,
    mcp,
    tuning,
    repairs,
    doctor,
):
    module.add_to(app)
