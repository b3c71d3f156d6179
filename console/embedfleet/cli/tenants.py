"""Tenants: who shares the workers, and how."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.output import note, print_json, say, table, terminal
from embedfleet.cli.parameters import Json, unicode_text
from embedfleet.cli.session import session

if TYPE_CHECKING:
    from embedfleet_schema.store.shares import TenantInfo

Tenant = Annotated[
    str,
    typer.Argument(
        metavar="TENANT", help="The name that jobs give: enqueue --tenant.", callback=unicode_text
    ),
]
Weight = Annotated[
    float, typer.Option(metavar="NUMBER", help="How much more than a tenant of weight 1 it gets.")
]


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(help="Share the workers between tenants.", rich_markup_mode=None)
    group.command("set")(set_weight)
    group.command()(show)
    group.command()(clear)
    app.add_typer(group, name="tenants")


def set_weight(context: typer.Context, tenant: Tenant, weight: Weight, json: Json = False) -> None:
    """Set the weight of a tenant, for what is enqueued from now on."""
    with session(context).fleet() as fleet:
        fleet.tenants.set(tenant, weight)
    if json:
        print_json({"tenant": tenant, "weight": weight})
    else:
        say(f"{tenant}: weight {weight:g}, for what is enqueued from now on")


def show(context: typer.Context, json: Json = False) -> None:
    """Show the tenants that have a weight or work that waits."""
    with session(context).fleet(looks_only=True) as fleet:
        found = fleet.tenants.show()
    if json:
        print_json([asdict(each) for each in found])
    elif found:
        terminal().print(table(COLUMNS, [_row(each) for each in found]))
    else:
        say("no tenant has a weight, and no job waits")
        note("Set one: embedfleet tenants set acme --weight 2")


def clear(context: typer.Context, tenant: Tenant, json: Json = False) -> None:
    """Let a tenant have the weight 1 again."""
    with session(context).fleet() as fleet:
        cleared = fleet.tenants.clear(tenant)
    if json:
        print_json({"tenant": tenant, "cleared": cleared})
        return
    say(f"{tenant}: weight 1 again" if cleared else f"{tenant}: no weight was set")


COLUMNS = ["tenant", "#weight", "#jobs", "#chunks", "#tokens"]


def _row(each: TenantInfo) -> list[str]:
    return [
        each.name,
        f"{each.weight:g}",
        f"{each.jobs:,}",
        f"{each.queued:,}",
        f"{each.tokens:,}",
    ]
