"""Fields of the metadata as columns of a collection's view."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedfleet.cli.output import print_json, say
from embedfleet.cli.parameters import Json, Name
from embedfleet.cli.session import session
from embedfleet_schema.amounts import quantity
from embedfleet_schema.errors import UsageError

if TYPE_CHECKING:
    from embedfleet import Collection
    from embedfleet_schema.store.metadata_columns import ColumnType

EXAMPLE = "write FIELD:TYPE, such as year:int; types are int, float, text, bool, date and timestamp"

Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="FIELD:TYPE",
        help="Show a field of the metadata as a column of the view, with an index for ranges: "
        "year:int. Types: int, float, text, bool, date, timestamp.",
    ),
]
Fields = Annotated[
    list[str],
    typer.Argument(metavar="FIELD:TYPE...", help="Such as year:int. To remove one: its name."),
]
Remove = Annotated[bool, typer.Option("--remove", help="Remove the columns of these names.")]


def column(
    context: typer.Context, name: Name, fields: Fields, remove: Remove = False, json: Json = False
) -> None:
    """Show fields of the metadata as columns of the view, with an index for ranges.

    A value of another type is NULL there; `collection show` counts them.
    """
    wanted = [] if remove else parsed(fields)
    with session(context).fleet() as fleet:
        collection = fleet.collection(name)
        if remove:
            gone = [each for each in fields if collection.remove_column(each)]
        else:
            add(collection, wanted)
        columns = [asdict(each) for each in collection.columns()]
    if json:
        print_json({"name": name, "columns": columns} | ({"removed": gone} if remove else {}))
        return
    for each in fields if remove else ():
        say(f"removed {each}" if each in gone else f"{name} has no column {each}")
    if not remove:
        there = ", ".join(f"{each['name']} {each['type']}" for each in columns)
        say(f"{name} has the columns {there}")


def parsed(fields: list[str]) -> list[tuple[str, ColumnType]]:
    """Fields and their types.

    Raises:
        UsageError: one is not written so.
    """
    found: list[tuple[str, ColumnType]] = []
    for each in fields:
        field, _, type_ = each.rpartition(":")
        match type_:
            case "int" | "float" | "text" | "bool" | "date" | "timestamp" if field:
                found.append((field, type_))
            case _:
                raise UsageError(reason=f"{each!r} is no column; {EXAMPLE}")
    return found


def add(collection: Collection, columns: list[tuple[str, ColumnType]]) -> None:
    for field, type_ in columns:
        collection.add_column(field, type_)


def described(collection: Collection) -> list[dict[str, Any]]:
    """The columns with how many values each does not show."""
    others = collection.of_another_type()
    return [
        asdict(each) | {"of_another_type": others.get(each.name, 0)}
        for each in collection.columns()
    ]


def shown(column: dict[str, Any]) -> str:
    """As `collection show` writes one."""
    others = column["of_another_type"]
    told = f" ({quantity(others, 'value')} of another type)" if others else ""
    return f"{column['name']} {column['type']}{told}"
