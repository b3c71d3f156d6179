"""Write the pages of reference/ from what they describe: docstrings, `--help`, SQL and errors.

python docs/generate_reference.py
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from textwrap import dedent
from types import ModuleType

from typer import Context
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

import embedfleet
from embedfleet.cli.app import application
from embedfleet_schema.errors import EmbedfleetError, UsageError

FOLDER = Path(__file__).with_name("reference")
MIGRATIONS = FOLDER.parents[1] / "schema/embedfleet_schema/migrations/versions"
WIDTH = 96
PYTHON = """\
# Python

<!-- Written by docs/generate_reference.py. -->

The names of `import embedfleet as ef`. Importing it costs next to nothing: everything loads on
first use. The errors have [a page of their own](errors.md).
"""
COMMANDS = """\
# Commands

<!-- Written by docs/generate_reference.py. -->

What `--help` says of each command. Exit codes: 0 done, 1 failed, 2 wrong use.
"""
SQL = """\
# SQL

<!-- Written by docs/generate_reference.py. -->

The functions of the schema `embedfleet` that any client may call. The
[cookbook](../sql-cookbook.md) shows each in use, and says which rights it needs. There,
[the view](../sql-cookbook.md#the-view) of a collection is described, too.
"""
ERROR_PAGE = """\
# Errors

<!-- Written by docs/generate_reference.py. -->

Each error of embedfleet is an `EmbedfleetError`. `ef.errors` has those that a program of yours can
meet. A message says what happened, to what, and what to do next; what stands in braces is filled
in. The command ends with exit code 2 after wrong use, and with 1 otherwise. The codes of documents
and chunks that failed are in [operations](../operations.md#codes).
"""

# What clients call; the rest serves these.
FUNCTIONS = (
    "search",
    "hybrid_search",
    "nearest_documents",
    "neighbours",
    "similar",
    "diverse",
    "duplicates",
    "embed",
    "ask",
    "answer",
    "filter_condition",
    "space_of",
    "vector_indexes",
)
ERRORS = {
    "In general": "embedfleet_schema.errors",
    "Databases, tables and roles": "embedfleet_schema.database_errors",
    "Export, import and other libraries": "embedfleet_schema.exchange_errors",
    "Syncs": "embedfleet_schema.sync_errors",
    "Embedders, in workers": "embedfleet_workers.embedding_errors",
}
_MADE = re.compile(
    r"((?:^--[^\n]*\n)+)CREATE (?:OR REPLACE )?(FUNCTION|PROCEDURE) "
    r"(embedfleet\.(\w+)\(.*?)\s+LANGUAGE",
    re.MULTILINE | re.DOTALL,
)
_SECTION = re.compile(r"^(Args|Raises|Returns|Yields):$", re.MULTILINE)
_ITEM = re.compile(r"^(\w[^:\n]*): ", re.MULTILINE)


def python() -> str:
    """The names of `import embedfleet`, with their docstrings."""
    parts = [PYTHON]
    names = [name for name in embedfleet.__all__ if name not in {"__version__", "errors"}]
    for name in sorted(names, key=str.lower):
        value = getattr(embedfleet, name)
        parts += [f"## {name}\n", *_described(name, value)]
        if inspect.isclass(value):
            parts += _members(value)
    return "\n".join(parts)


def _members(of: type) -> Iterator[str]:
    members = {name: value for name, value in vars(of).items() if not name.startswith("_")}
    for name, value in members.items():
        doc = inspect.getdoc(value)
        if isinstance(value, property):
            yield f"### {of.__name__}.{name}\n"
            annotation = inspect.signature(value.fget).return_annotation
            yield f"A property: `{annotation}`. {_prose(doc or '')}".rstrip() + "\n"
        elif isinstance(value, staticmethod | classmethod) or inspect.isfunction(value):
            yield f"### {of.__name__}.{name}\n"
            yield from _described(name, getattr(of, name))


def _described(name: str, value: object) -> Iterator[str]:
    is_error = inspect.isclass(value) and issubclass(value, Exception)
    if callable(value) and not is_error:
        yield f"```text\n{_signature(name, value)}\n```\n"
    doc = inspect.getdoc(value)
    # A dataclass without words of its own shows its fields again.
    if doc and not doc.startswith(f"{name}("):
        yield f"{_prose(doc)}\n"


def _signature(name: str, value: Callable[..., object]) -> str:
    signature = inspect.signature(value)
    words = "class" if inspect.isclass(value) else "def"
    if inspect.iscoroutinefunction(value):
        words = "async def"
    given = list(_parameters(signature))
    returned = signature.return_annotation
    shown = isinstance(returned, str) and words != "class" and returned != "None"
    end = f" -> {returned}" if shown else ""
    line = f"{words} {name}({', '.join(given)}){end}: ..."
    if len(line) <= WIDTH:
        return f"class {name}: ..." if words == "class" and not given else line
    return f"{words} {name}(\n" + "".join(f"    {each},\n" for each in given) + f"){end}: ..."


def _parameters(signature: inspect.Signature) -> Iterator[str]:
    starred = False
    for name, given in signature.parameters.items():
        if name == "self":
            continue
        keyword_only = given.kind is given.KEYWORD_ONLY
        if keyword_only and not starred:
            yield "*"
        starred = starred or keyword_only or given.kind is given.VAR_POSITIONAL
        star = {given.VAR_POSITIONAL: "*", given.VAR_KEYWORD: "**"}.get(given.kind, "")
        annotation = "" if given.annotation is given.empty else f": {given.annotation}"
        default = "" if given.default is given.empty else f" = {_shown(given.default)}"
        yield f"{star}{name}{annotation}{default}"


def _shown(default: object) -> str:
    # An object of ours has no short name: `...` says that there is a default.
    return repr(default) if isinstance(default, str | int | float | bool | None) else "..."


def _prose(doc: str) -> str:
    """A docstring as Markdown: its sections become lists, and its examples blocks."""
    first, *rest = _SECTION.split(doc)
    text = _with_blocks(first).strip()
    for heading, body in zip(rest[::2], rest[1::2], strict=True):
        items = _ITEM.split(dedent(body.strip("\n")))
        text += f"\n\n**{heading}**\n"
        for name, words in zip(items[1::2], items[2::2], strict=True):
            text += f"\n- `{name}`: {' '.join(words.split())}"
        if len(items) == 1:
            text += f"\n{' '.join(body.split())}"
    return text


def _with_blocks(text: str) -> str:
    """Lines that are indented by four spaces, after an empty one, are an example."""

    def fenced(block: re.Match[str]) -> str:
        return f"\n```text\n{inspect.cleandoc(block[0].strip(chr(10)))}\n```\n"

    return re.sub(r"(?<=\n\n)(?: {4}.*\n?|\n(?= {4}))+", fenced, text)


def cli() -> str:
    """What `--help` says of each command."""
    command = get_command(application())
    return "\n".join([COMMANDS, *_helps(command, "embedfleet")])


def _helps(
    command: TyperCommand | TyperGroup, name: str, parent: Context | None = None
) -> Iterator[str]:
    width = {"terminal_width": WIDTH, "max_content_width": WIDTH}
    own = name.rpartition(" ")[2] if parent else name
    context = command.context_class(command, info_name=own, parent=parent, **width)
    text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    yield f"## {name}\n\n```text\n{text.strip()}\n```\n"
    for child, below in getattr(command, "commands", {}).items():
        if not below.hidden:
            yield from _helps(below, f"{name} {child}", context)


def sql() -> str:
    """The functions of SQL that clients call, as the newest migration makes them."""
    found: dict[str, tuple[str, str]] = {}
    for path in sorted(MIGRATIONS.glob("*.sql")):
        for comment, kind, made, name in _MADE.findall(path.read_text(encoding="utf-8")):
            found[name] = (_words(comment), _declared(kind, made))
    parts = [SQL]
    for name in FUNCTIONS:
        words, declared = found[name]
        parts.append(f"## embedfleet.{name}\n\n{words}\n\n```text\n{declared}\n```\n")
    return "\n".join(parts)


def _words(comment: str) -> str:
    lines = [line.removeprefix("--").strip() for line in comment.splitlines()]
    return " ".join(line for line in lines if line and not line.startswith("name: "))


def _declared(kind: str, made: str) -> str:
    text = re.sub(r"\s+--.*", "", made).replace("{vector}", "vector")
    return f"CALL {text}" if kind == "PROCEDURE" else text


def errors() -> str:
    """Every error, with its message."""
    parts = [ERROR_PAGE]
    for heading, module in ERRORS.items():
        parts.append(f"## {heading}\n\n| error | message | exit code |\n| --- | --- | --- |")
        parts += [_error_row(error) for error in _errors_of(import_module(module))]
        parts.append("")
    return "\n".join(parts)


def _errors_of(module: ModuleType) -> list[type[EmbedfleetError]]:
    own = (value for value in vars(module).values() if inspect.isclass(value))
    return [
        value
        for value in own
        if issubclass(value, EmbedfleetError) and value.__module__ == module.__name__
    ]


def _error_row(error: type[EmbedfleetError]) -> str:
    message = " ".join((vars(error).get("__doc__") or "").split())
    message = message.replace("{{", "{").replace("}}", "}").replace("|", "\\|")
    message = re.sub(r"([<>*_])", r"\\\1", message)
    code = 2 if issubclass(error, UsageError) else error.exit_code
    return f"| `{error.__name__}` | {message} | {code} |"


PAGES = {"python.md": python, "cli.md": cli, "sql.md": sql, "errors.md": errors}

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, render in PAGES.items():
        (FOLDER / name).write_text(render(), encoding="utf-8")
