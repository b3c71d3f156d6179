"""`key`: who may call the HTTP API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.output import note, print_json, say, table, terminal
from embedfleet.cli.parameters import Json, unicode_text
from embedfleet.cli.session import session

if TYPE_CHECKING:
    from embedfleet_schema.store.api_keys import ApiKeyInfo

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="Whose key it is.", callback=unicode_text)
]
Scopes = Annotated[
    list[str],
    typer.Option("--scope", metavar="SCOPE", help="embeddings, search or documents; repeatable."),
]
Collections = Annotated[
    list[str] | None,
    typer.Option(
        "--collection", metavar="COLLECTION", help="The only ones that it sees; repeatable."
    ),
]
Expires = Annotated[
    str | None, typer.Option(metavar="TIME", help="When it ends: 90d, 12h, 30m. Default: never.")
]
Rate = Annotated[
    int, typer.Option(metavar="NUMBER", min=1, max=1_000_000, help="Most requests a minute.")
]
COLUMNS = ["name", "scopes", "collections", "#rate", "created", "expires", "used", "state"]


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(help="Make and revoke keys of the HTTP API.", rich_markup_mode=None)
    group.command()(create)
    group.command("list")(show)
    group.command()(revoke)
    app.add_typer(group, name="key")


def create(
    context: typer.Context,
    name: Name,
    scope: Scopes,
    collection: Collections = None,
    expires: Expires = None,
    rate: Rate = 600,
    json: Json = False,
) -> None:
    """Make a key, and show it this once: only its hash is stored."""
    with session(context).fleet() as fleet:
        key, made = fleet.api_keys.create(
            name, scope, collections=collection or None, expires=expires, per_minute=rate
        )
    if json:
        print_json(_json(made) | {"key": key})
        return
    say(key)
    note(f"This is the key of {name}. It is shown this once. Send it as: Authorization: Bearer KEY")


def show(context: typer.Context, json: Json = False) -> None:
    """List the keys, without themselves."""
    with session(context).fleet(looks_only=True) as fleet:
        found = fleet.api_keys.show()
    if json:
        print_json([_json(each) for each in found])
    elif found:
        terminal().print(table(COLUMNS, [_row(each) for each in found]))
    else:
        say("there are no keys")
        note("Make one: embedfleet key create website --scope search")


def revoke(context: typer.Context, name: Name, json: Json = False) -> None:
    """End a key for good. The console refuses it within two seconds."""
    with session(context).fleet() as fleet:
        fleet.api_keys.revoke(name)
    if json:
        print_json({"name": name, "revoked": True})
    else:
        say(f"{name}: revoked")


def _json(each: ApiKeyInfo) -> dict[str, object]:
    from dataclasses import asdict

    return {field: value for field, value in asdict(each).items() if field != "id"}


def _row(each: ApiKeyInfo) -> list[str]:
    days = [
        "-" if day is None else day.strftime("%Y-%m-%d")
        for day in (each.created_at, each.expires_at, each.used_at)
    ]
    names = "all" if each.collections is None else ", ".join(each.collections)
    return [each.name, ", ".join(each.scopes), names, f"{each.per_minute:,}", *days, each.state]
