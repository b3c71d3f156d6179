"""`tune`: measure what is quickest for a local model on this machine, and keep it for workers."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.output import note, print_json, say, table, terminal
from embedfleet.cli.parameters import Json
from embedfleet.cli.session import session
from embedfleet_schema.amounts import quantity
from embedfleet_schema.errors import UsageError

if TYPE_CHECKING:
    from embedfleet_workers.embedders.tuning import Tuned

Model = Annotated[str, typer.Argument(metavar="MODEL", help="A local model.")]
Seconds = Annotated[float, typer.Option(min=0, max=600, help="How long to measure each way.")]


def add_to(app: typer.Typer) -> None:
    app.command()(tune)


def tune(
    context: typer.Context,
    model: Model = "all-MiniLM-L6-v2",
    seconds: Seconds = 3.0,
    json: Json = False,
) -> None:
    """Measure how a model is quickest on this CPU: engine, precision, pack size and processes.

    It takes about a minute with a small model and uses all cores. Workers and searches on this
    machine take what it finds from their next start on, where the settings leave it open.
    """
    from embedfleet.progress import activity
    from embedfleet_schema.catalogue.model_files import find_model
    from embedfleet_schema.catalogue.space_lookup import resolve_space
    from embedfleet_workers.embedders.engine import wanted_of
    from embedfleet_workers.embedders.tuning import FILE, save, tried

    settings = session(context).settings()
    space = resolve_space(model)
    if space.provider != "local":
        raise UsageError(reason=f"{space.name} does not run on this machine: nothing to tune")
    found = []
    with activity(f"loading {space.name}") as show:
        wanted = wanted_of(settings, space.revision)
        for each in tried(space, find_model(space.model), wanted, seconds=seconds):
            found.append(each)
            show(f"{_way(each)}: {each.chunks_per_s:,.1f} chunks/s")
    if not found:
        raise UsageError(
            reason=f"{space.name} does not run here with EMBEDFLEET_ENGINE={settings.engine} and "
            f"EMBEDFLEET_PRECISION={settings.precision}. Set one of them to auto"
        )
    best = save(settings.data / FILE, space, found)
    if json:
        print_json({"model": space.name, "best": asdict(best), "measured": found})
        return
    rows = [
        [
            each.engine,
            each.precision,
            str(each.processes),
            f"{each.padded_tokens:,}",
            f"{each.chunks_per_s:,.1f}",
        ]
        for each in sorted(found, key=lambda each: -each.chunks_per_s)
    ]
    columns = ["engine", "precision", "#processes", "#tokens of a pack", "#chunks/s"]
    terminal().print(table(columns, rows, title=f"{space.name} on this machine"))
    say(f"Kept for workers of this machine: {_way(best)}")
    note("They take it when they start.")


def _way(tuned: Tuned) -> str:
    processes = quantity(tuned.processes or 1, "process", "processes")
    return (
        f"{tuned.engine}, {tuned.precision}, {processes}, packs of {tuned.padded_tokens:,} tokens"
    )
