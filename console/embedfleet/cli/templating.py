"""Another template for a collection: what it costs first, then the change."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.jobs import goes_on
from embedfleet.cli.output import note, print_json, say
from embedfleet.cli.parameters import Budget, Json, Name, Wait, Yes, template_text
from embedfleet.cli.reading import say_rejections
from embedfleet.cli.session import session
from embedfleet_schema.amounts import quantity
from embedfleet_schema.errors import UsageError

if TYPE_CHECKING:
    from embedfleet import Job, Plan

NewTemplate = Annotated[
    str,
    typer.Option(
        "--template",
        help=r"What is embedded with each chunk: '{title}\n\n{content}'. Empty: its content alone.",
        callback=template_text,
    ),
]


def add_to(group: typer.Typer) -> None:
    group.command("set")(change)


def change(
    context: typer.Context,
    name: Name,
    *,
    template: NewTemplate,
    budget: Budget = None,
    yes: Yes = False,
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Embed what is stored with another template. It says first what that costs.

    Documents are not read again, and serve their former version until the new one is complete. If
    it is cut off, repeat it.
    """
    from embedfleet.progress import activity, enqueue_progress

    with session(context).fleet() as fleet:
        collection = fleet.collection(name)
        with activity("counting") as tell:
            plan = collection.plan_template(
                template, on_window=lambda counted: tell(quantity(counted.chunks, "chunk"))
            )
        if not json:
            _say(plan)
        if not yes:
            if json:
                print_json({"plan": asdict(plan), "changed": None})
                raise typer.Exit(2)
            _ask(name)
        with enqueue_progress() as show:
            job = collection.set_template(template, budget_usd=budget, on_window=show)
        with goes_on(job):
            _report(job, plan, name, wait=wait, json=json)


def _say(plan: Plan) -> None:
    # It reads this module, for the commands of a collection.
    from embedfleet.cli.costs import plan_lines

    for line in plan_lines(plan, batched=False):
        say(line)
    say_rejections(plan.rejections, plan.rejected)


def _ask(name: str) -> None:
    if not sys.stdin.isatty():
        reason = f"Nothing was changed. To change {name!r} without confirmation, add --yes"
        raise UsageError(reason=reason)
    typer.confirm(f"Embed {name} with this template?", abort=True, err=True)


def _report(job: Job, plan: Plan, name: str, *, wait: bool, json: bool) -> None:
    done = job.enqueued
    assert done is not None  # noqa: S101 - this process made the job
    if not json:
        changed = quantity(done.documents, "document")
        say(f"job {done.job_id}: {changed} in a new version, {done.unchanged:,} as before")
    if done.rejected:
        rejected = quantity(done.rejected, "document")
        note(f"Enqueue {rejected} again, to cut them anew. See which: embedfleet failures {name}")
    if wait:
        job.wait(progress=True)
    if json:
        print_json({"plan": asdict(plan), "changed": asdict(done)})
