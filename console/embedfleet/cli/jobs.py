"""Jobs: look at them, cancel, pause, resume."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.output import note, one_line, print_json, say, status_json, terminal
from embedfleet.cli.parameters import JobId, Json, unicode_text
from embedfleet.cli.session import session
from embedfleet_schema.amounts import quantity
from embedfleet_schema.errors import UnknownJob, UsageError
from embedfleet_schema.turns import DEFAULT_TENANT
from embedfleet_schema.types import LARGEST_ID

if TYPE_CHECKING:
    from embedfleet import Fleet, Job, JobStatus
    from embedfleet_schema.store.webhooks import WebhookInfo

JobOrModel = Annotated[
    str,
    typer.Argument(
        metavar="JOB|MODEL",
        help="The number of a job, or a model such as openai/text-embedding-3-small.",
        callback=unicode_text,
    ),
]
NewBudget = Annotated[
    float | None,
    typer.Option("--budget", min=0.000_001, metavar="USD", help="The new total budget of the job."),
]
OneJob = Annotated[
    int | None,
    typer.Argument(metavar="JOB", min=1, max=LARGEST_ID, help="The number of a job."),
]


def add_to(app: typer.Typer) -> None:
    app.command()(status)
    app.command()(cancel)
    app.command()(pause)
    app.command()(resume)


def status(context: typer.Context, job: OneJob = None, json: Json = False) -> None:
    """Show a job, or the latest jobs with the queues and workers."""
    from embedfleet.cli.overview import Overview, tables

    with session(context).fleet(looks_only=True) as fleet:
        if job is not None:
            found = fleet.job(job)
            _show(found.status, found.webhook, json=json)
            return
        overview = Overview.of(fleet)
    if json:
        print_json(overview.as_json())
        return
    console = terminal()
    for each in tables(overview):
        console.print(each)


def cancel(context: typer.Context, job: JobId, json: Json = False) -> None:
    """Cancel a job: drop what waits. What is embedded stays."""
    with session(context).fleet() as fleet:
        found = fleet.job(job)
        found.cancel()
        status = found.status
    if json:
        print_json(status_json(status))
    else:
        say(f"job {job} is {status.state}")


def pause(context: typer.Context, job: JobId, json: Json = False) -> None:
    """Pause a job: hold what waits until `resume`."""
    with session(context).fleet() as fleet:
        found = fleet.job(job)
        found.pause()
        status = found.status
    if json:
        print_json(status_json(status))
        return
    say(f"job {job} is {status.state}")
    if status.state == "paused":
        note(f"Go on: embedfleet resume {job}")


def resume(
    context: typer.Context, what: JobOrModel, budget: NewBudget = None, json: Json = False
) -> None:
    """Resume a paused job, or a model that was paused."""
    with session(context).fleet() as fleet:
        if what.isdecimal():
            _say_resumed(_resumed(fleet, int(what), budget), json=json)
            return
        if budget is not None:
            raise UsageError(reason="a budget belongs to a job, not to a model")
        paused = fleet.resume(what)
    if json:
        print_json({"model": what, "was_paused": paused})
    else:
        say(f"{what} is resumed" if paused else f"{what} was not paused")


def _resumed(fleet: Fleet, number: int, budget: float | None) -> JobStatus:
    if not 1 <= number <= LARGEST_ID:
        raise UnknownJob(job=number)
    job = fleet.job(number)
    job.resume(budget_usd=budget)
    return job.status


def _say_resumed(status: JobStatus, *, json: bool) -> None:
    number = status.id
    if json:
        print_json(status_json(status))
    elif status.resume is not None:
        say(f"job {number} goes on when {status.resume} does: {status.reason}")
        note(f"Go on: embedfleet resume {status.resume}")
    elif status.finished:
        say(f"job {number} is {status.state}")
    else:
        say(f"job {number} goes on")


@contextmanager
def goes_on(job: Job) -> Iterator[None]:
    """Whoever leaves with Ctrl-C is told that the job does not end with that."""
    try:
        yield
    except KeyboardInterrupt:
        note(f"Job {job.id} goes on without you. Look again: embedfleet status {job.id}")
        raise


def _show(status: JobStatus, webhook: WebhookInfo | None, *, json: bool) -> None:
    from embedfleet.progress import describe

    if json:
        print_json(status_json(status) | {"webhook": webhook})
        return
    whose = "" if status.tenant == DEFAULT_TENANT else f" for {status.tenant}"
    say(
        f"job {status.id}: {status.kind} {status.collection}{whose}, {describe(status)}, "
        f"{status.lane}"
    )
    documents, chunks = quantity(status.documents, "document"), quantity(status.chunks, "chunk")
    say(
        f"{documents}, {status.unchanged:,} unchanged, {status.rejected:,} rejected, "
        f"{chunks}, {status.reused:,} reused"
        + (f", {status.awaited:,} queued by other jobs before" if status.awaited else "")
    )
    if webhook is not None:
        why = f": {webhook.reason}" if webhook.reason else ""
        tried = quantity(webhook.attempts, "attempt")
        say(one_line(f"webhook to {webhook.host}: {webhook.state}, {tried}{why}"))
    if status.failed or status.rejected:
        note(f"See why: embedfleet failures {status.collection}")
