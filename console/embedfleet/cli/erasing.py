"""`delete --erase`: what was erased, place by place, and what may be left."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from embedfleet.cli.output import note, one_line, print_json, say, table, terminal
from embedfleet.cli.parameters import unicode_text
from embedfleet.cli.session import session
from embedfleet_schema.amounts import quantity
from embedfleet_schema.unicode_forms import unicode_forms

if TYPE_CHECKING:
    from embedfleet.erasing import Erased
    from embedfleet_schema.store.erasure import Place


def erase_keys(context: typer.Context, name: str, keys: list[str], *, json: bool) -> None:
    """Erase documents and report; exit with 1 if none was there or something is left."""
    wanted = [unicode_text(key) for key in dict.fromkeys(keys)]
    with session(context).fleet() as fleet:
        erased = fleet.collection(name).erase(wanted)
    for key in wanted:
        if not set(unicode_forms(key)) & set(erased.keys):
            note(f"not there: {key}")
    if json:
        print_json(asdict(erased) | {"is_clean": erased.is_clean})
    else:
        _report(erased)
    if not erased.keys or not erased.is_clean:
        raise typer.Exit(1)


def _report(erased: Erased) -> None:
    say(f"erased {quantity(len(erased.keys), 'document')}")
    columns = ("place", "#found", "#left", "note")
    terminal().print(table(columns, [_row(place) for place in erased.places]))
    if erased.shared:
        say(f"kept: {quantity(erased.shared, 'text')} that other documents have, too")
    for other in erased.elsewhere:
        say(f"collection {other} holds one of the texts, too: erase it there")
    for what in erased.files:
        say(one_line(what))
    if erased.not_vacuumed:
        note(f"Old rows stay until autovacuum comes: {', '.join(erased.not_vacuumed)}")
    note("What cannot be looked into:")
    for what in erased.unproven:
        note(f"- {what}")


def _row(place: Place) -> list[str]:
    counts = ("?" if number is None else f"{number:,}" for number in (place.found, place.left))
    return [place.name, *counts, place.note]
