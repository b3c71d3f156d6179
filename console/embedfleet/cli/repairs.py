"""What went wrong and how to repair it: explain, failures, retry, audit."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.jobs import goes_on
from embedfleet.cli.output import note, one_line, print_json, say, status_json, table, terminal
from embedfleet.cli.parameters import (
    Budget,
    Json,
    LaneOption,
    Name,
    TenantOption,
    Wait,
    unicode_text,
)
from embedfleet.cli.session import session
from embedfleet_schema.amounts import quantity
from embedfleet_schema.errors import UnknownJob, UsageError

if TYPE_CHECKING:
    from embedfleet import Audit, Collection, FailureInfo, Fleet, Job, JobStatus

LONGEST_ID = 18  # digits that surely fit a bigint

Limit = Annotated[int, typer.Option(min=1, max=1_000_000, help="How many, newest first.")]
NameOrJob = Annotated[
    str,
    typer.Argument(
        metavar="NAME|JOB", help="A collection, or the number of a job.", callback=unicode_text
    ),
]
Key = Annotated[
    str, typer.Argument(metavar="KEY", help="The document's key.", callback=unicode_text)
]
Clear = Annotated[bool, typer.Option("--clear", help="Forget the rejected documents.")]
Repair = Annotated[
    bool, typer.Option("--repair", help="Queue what is missing, and remove what is extra.")
]


def add_to(app: typer.Typer) -> None:
    app.command()(explain)
    app.command()(failures)
    app.command()(retry)
    app.command()(audit)


def explain(context: typer.Context, name: Name, key: Key, json: Json = False) -> None:
    """Say why a document is not searchable yet.

    The exit code is 1 if there is no document of this key.
    """
    with session(context).fleet(looks_only=True) as fleet:
        found = fleet.collection(name).explain(key)
    if json:
        words = {"searchable": found.searchable, "explanation": str(found)}
        print_json(asdict(found) | words)
    else:
        say(one_line(str(found)))
    if found.state == "unknown":
        raise typer.Exit(1)


def failures(
    context: typer.Context,
    name: Name,
    limit: Limit = 100,
    clear: Clear = False,
    json: Json = False,
) -> None:
    """List failed chunks and rejected documents."""
    if clear:
        _clear(context, name, json=json)
        return
    with session(context).fleet(looks_only=True) as fleet:
        found = fleet.collection(name).failures(limit=limit)
    if json:
        print_json([asdict(each) for each in found])
        return
    if not found:
        note(f"Nothing failed in {name}.")
        return
    columns = ["document", "#position", "code", "#attempts", "#job", "reason"]
    rows = [_row(each) for each in found]
    if any(each.source for each in found):
        columns.append("source")
        rows = [[*row, each.source or ""] for row, each in zip(rows, found, strict=True)]
    terminal().print(table(columns, rows))
    if len(found) == limit:
        note(f"These are the newest {limit:,}. To see more, use --limit")
    if any(each.position is not None and each.attempts for each in found):
        note(f"Retry the chunks: embedfleet retry {name}")


def _clear(context: typer.Context, name: str, *, json: bool) -> None:
    with session(context).fleet() as fleet:
        collection = fleet.collection(name)
        cleared = collection.clear_failures()
        left = len(collection.failures(limit=1))
    if json:
        print_json({"cleared": cleared})
        return
    say(f"cleared {quantity(cleared, 'verdict')} on rejected documents")
    if left:
        note(f"Failed chunks stay listed. Retry them: embedfleet retry {name}")


def retry(
    context: typer.Context,
    target: NameOrJob,
    budget: Budget = None,
    lane: LaneOption = None,
    tenant: TenantOption = None,
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Retry the failed chunks of a collection or a job."""
    with session(context).fleet() as fleet:
        collection, job_id = _target(fleet, target)
        job = collection.retry(job_id=job_id, budget_usd=budget, lane=lane, tenant=tenant)
        status = _waited(job) if job is not None and wait else None
    if json:
        print_json(
            {"job_id": job.id if job else None, "job": status_json(status) if status else None}
        )
    elif job is None:
        say("no failed chunks to retry")
    else:
        say(f"job {job.id} retries them")
    if status is not None and (status.failed or status.state == "cancelled"):
        note(f"See why: embedfleet failures {status.collection}")
        raise typer.Exit(1)


def audit(
    context: typer.Context,
    name: Name,
    repair: Repair = False,
    budget: Budget = None,
    lane: LaneOption = None,
    tenant: TenantOption = None,
    json: Json = False,
) -> None:
    """Compare what is stored with what should be stored.

    The exit code is 1 if something missing, extra or miscounted was found and not repaired.
    """
    from embedfleet.progress import activity

    if budget is not None and not repair:
        raise UsageError(reason="--budget needs --repair: the audit itself costs nothing")
    with session(context).fleet(looks_only=not repair) as fleet, activity("counting"):
        collection = fleet.collection(name)
        found = collection.audit(repair=repair, budget_usd=budget, lane=lane, tenant=tenant)
    if json:
        print_json(asdict(found) | {"clean": found.clean})
    else:
        _show(found, name, repaired=repair)
    if not found.clean and not repair:
        raise typer.Exit(1)


def _waited(job: Job) -> JobStatus:
    with goes_on(job):
        return job.wait(progress=True)


def _show(found: Audit, name: str, *, repaired: bool) -> None:
    documents, chunks = quantity(found.documents, "document"), quantity(found.chunks, "chunk")
    texts = quantity(found.texts, "distinct text")
    say(f"{documents}, {found.waiting_documents:,} of them not live yet. {chunks}, {texts}")
    say(
        f"{found.stored:,} stored, {found.waiting:,} waiting, {found.failed:,} failed, "
        f"{found.missing:,} missing, {found.extra:,} extra"
    )
    if found.miscounted:
        say(f"{_counters(found.miscounted)} wrong")
    if found.job_id is not None:
        say(f"job {found.job_id} embeds what was missing")
    if repaired and found.extra:
        say("removed the extra vectors")
    if repaired and found.miscounted:
        say("set the counters right")
    if not found.clean and not repaired:
        note(f"Fix it: embedfleet audit {name} --repair")


def _counters(count: int) -> str:
    return "1 counter is" if count == 1 else f"{count:,} counters are"


def _row(failure: FailureInfo) -> list[str]:
    return [
        failure.document or "",
        "" if failure.position is None else str(failure.position),
        failure.code,
        str(failure.attempts),
        "" if failure.job_id is None else str(failure.job_id),
        failure.reason,
    ]


def _target(fleet: Fleet, target: str) -> tuple[Collection, int | None]:
    """A collection, and the job of it that was named, if one was."""
    if not (target.isascii() and target.isdigit()):
        return fleet.collection(target), None
    if len(target) > LONGEST_ID:
        raise UnknownJob(job=target)
    job = fleet.job(int(target))
    return fleet.collection(job.status.collection), job.id
