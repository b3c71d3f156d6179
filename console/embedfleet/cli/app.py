"""The application: global options, and the commands in the order of a first visit."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from embedfleet.cli.output import say
from embedfleet.cli.parameters import path_text
from embedfleet.cli.session import Session

if TYPE_CHECKING:
    from typer.models import CommandInfo

# The modules in the order of a first visit, with the first words of their commands.
COMMANDS = {
    "demonstration": ("demo",),
    "stack": ("up", "down", "migrate"),
    "collections": ("collection",),
    "indexing": ("index", "recall"),
    "costs": ("plan", "usage"),
    "documents": ("enqueue", "delete"),
    "exchange": ("export", "import"),
    "pgai": ("import",),
    "contents": ("documents",),
    "syncing": ("sync",),
    "search": ("search",),
    "evaluating": ("eval",),
    "mapping": ("map",),
    "jobs": ("status", "cancel", "pause", "resume"),
    "rate_limits": ("limits",),
    "tenants": ("tenants",),
    "watch": ("watch",),
    "workers": ("worker",),
    "monitoring": ("exporter",),
    "console": ("console",),
    "keys": ("key",),
    "mcp": ("mcp",),
    "tuning": ("tune",),
    "repairs": ("explain", "failures", "retry", "audit"),
    "doctor": ("doctor",),
}


class TwoWords(TyperGroup):
    """`import pgai` is a command of its own beside `import FILE`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 - typer's own
        name = " ".join(args[:2])
        return super().resolve_command(ctx, [name, *args[2:]] if name in self.commands else args)


def application(name: str | None = None) -> typer.Typer:
    """The command line; only of the command `name` where there is that: to import the modules of
    all commands and to look at their options takes a fifth of a second.
    """
    # Without markup Typer needs no rich to print help, which halves the time until it is there.
    app = typer.Typer(
        name="embedfleet",
        cls=TwoWords,
        help="Turn documents into pgvector rows with a fleet of Celery workers.",
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback(invoke_without_command=True)(open_session)
    of_name = [module for module, words in COMMANDS.items() if name in words]
    for module in of_name or COMMANDS:
        import_module(f"embedfleet.cli.{module}").add_to(app)
    if of_name:
        app.registered_commands = [
            each for each in app.registered_commands if name == word_of(each)
        ]
    return app


def word_of(command: CommandInfo) -> str:
    """The first word of a command's name."""
    function = command.callback
    name = command.name or (function.__name__.replace("_", "-") if function else "")
    return name.partition(" ")[0]


def _show_version(wanted: bool) -> None:
    if wanted:
        say(f"embedfleet {version_of('embedfleet')}")
        raise typer.Exit


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
