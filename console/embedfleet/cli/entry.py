"""The entry point: run a command, and turn whatever ends it into one line and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import cache
from io import TextIOWrapper

from embedfleet_schema.errors import EmbedfleetError

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line of this process, or `arguments`; returns the exit code."""
    front, rest = split_globals(sys.argv[1:] if arguments is None else arguments)
    json = "--json" in rest[: rest.index("--")] if "--" in rest else "--json" in rest
    try:
        return _run([*front, *rest])
    except KeyboardInterrupt as error:
        return _end("interrupted", INTERRUPTED, error if json else None)
    except BrokenPipeError:
        _discard_output()
        return 1
    except Exception as error:  # noqa: BLE001 - the last stop: whatever it is, a person gets a line
        if "--debug" in front:
            traceback.print_exc()
        return _end(*explain(error), error if json else None)


def split_globals(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The options of every command, which people may write anywhere, and the other words."""
    front: list[str] = []
    rest: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        if word == "--":
            return front, [*rest, word, *left]
        if word == "--debug" or word.startswith("--data="):
            front.append(word)
        elif word == "--data":
            front += [word, *left[:1]]
            left = left[1:]
        else:
            rest.append(word)
    return front, rest


def explain(error: Exception) -> tuple[str, int]:
    """The line and the exit code for an error."""
    from typer import Abort
    from typer.exceptions import TyperException

    if isinstance(error, EmbedfleetError):
        return f"error: {error}", error.exit_code
    if isinstance(error, TyperException):
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "embedfleet"
        # pydantic puts these words before what is wrong with a value.
        message = error.format_message().replace("Value error, ", "")
        return f"error: {message} See: {path} --help", error.exit_code
    if isinstance(error, Abort):
        return "nothing was done", 1
    first = (str(error).strip().splitlines() or ["no message"])[0]
    kind = type(error)
    checks = ", and check the database with: embedfleet doctor" if _of_driver(kind) else ""
    advice = f"Run again with --debug for the traceback{checks}"
    return f"error: {kind.__name__}: {first.rstrip('.')}. {advice}", 1


def _run(words: list[str]) -> int:
    if isinstance(sys.stdout, TextIOWrapper):
        # A terminal that cannot show a character of a document shows its number.
        sys.stdout.reconfigure(errors="backslashreplace")
    code = _command(_name(words))(words, prog_name="embedfleet", standalone_mode=False)
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    sys.stdout.flush()
    return code if isinstance(code, int) else 0


@cache
def _command(name: str | None) -> Callable[..., object]:
    """The command line, for a command of this name."""
    from typer.main import get_command

    from embedfleet.cli.app import application

    return get_command(application(name)).main


def _name(words: Sequence[str]) -> str | None:
    """The command of a command line; None where global options alone are given."""
    _, rest = split_globals(words)
    return rest[0] if rest else None


def _of_driver(kind: type[Exception]) -> bool:
    return kind.__module__.startswith("psycopg")


def _end(line: str, code: int, as_json: BaseException | None = None) -> int:
    """Say how it ended; a program that asked for JSON gets the error as its data, too."""
    from embedfleet.cli.output import note, one_line, print_json
    from embedfleet_schema.logs import without_passwords

    # Drivers quote the URL that they do not understand.
    said = without_passwords(one_line(line))
    note(said)
    if as_json is not None:
        kind, message = type(as_json).__name__, said.removeprefix("error: ")
        print_json({"error": {"kind": kind, "message": message, "exit_code": code}})
    return code


def _discard_output() -> None:
    """Whoever read the output has gone; the interpreter must not stumble over the rest of it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
