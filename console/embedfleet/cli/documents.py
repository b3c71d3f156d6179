"""Documents: enqueue and delete them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.amounts import money
from embedfleet.cli.jobs import goes_on
from embedfleet.cli.output import note, one_line, print_json, quantity, say, status_json
from embedfleet.cli.parameters import Budget, Json, Name, Wait, unicode_text
from embedfleet.cli.reading import (
    Delimiter,
    Encoding,
    KeyColumn,
    KeyPrefix,
    MetadataColumns,
    Replace,
    SourceName,
    StdinKey,
    TextColumn,
    columns,
    note_report,
    read,
    report_json,
)
from embedfleet.cli.session import session
from embedfleet_schema.errors import NothingAccepted
from embedfleet_schema.types import Lane

if TYPE_CHECKING:
    from embedfleet import Collection, Fleet, Job, JobStatus, ReadReport, Rejection
    from embedfleet_producer.enqueue import Enqueued

EXAMPLES = 3

Paths = Annotated[
    list[str],
    typer.Argument(metavar="PATH", help="Files and folders; - for standard input."),
]
Keys = Annotated[list[str], typer.Argument(metavar="KEY", help="The documents' keys.")]
Model = Annotated[
    str | None,
    typer.Option(help="Create the collection with this model if it is new."),
]


LaneOption = Annotated[
    Lane,
    typer.Option(
        metavar="live|batch", help="batch: by the provider's batch API, at half price within a day."
    ),
]


def add_to(app: typer.Typer) -> None:
    app.command()(enqueue)
    app.command()(delete)


def enqueue(
    context: typer.Context,
    name: Name,
    paths: Paths,
    *,
    model: Model = None,
    budget: Budget = None,
    lane: LaneOption = "live",
    text_column: TextColumn = None,
    key_column: KeyColumn = None,
    metadata_columns: MetadataColumns = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    key: StdinKey = None,
    key_prefix: KeyPrefix = "",
    source: SourceName = None,
    replace: Replace = False,
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Store files and folders, and queue what is new in them."""
    from embedfleet import ReadOptions
    from embedfleet.progress import enqueue_progress

    options = ReadOptions(
        text_column=text_column,
        key_column=key_column,
        metadata_columns=columns(metadata_columns),
        delimiter=delimiter,
        encoding=encoding,
        key=key,
        key_prefix=key_prefix,
        source=source,
    )
    here = session(context)
    documents, reading = read(here, paths, options)
    with here.fleet() as fleet:
        collection = fleet.collection(name, model)
        with enqueue_progress() as show, _stays_queued():
            job = collection.enqueue(
                documents, budget_usd=budget, lane=lane, replace=replace, on_window=show
            )
        with goes_on(job):
            if budget is not None and not json:
                note(f"The job is paused when it has spent {money(budget)}")
            _report(fleet, collection, job, reading, wait=wait, json=json)


def delete(context: typer.Context, name: Name, keys: Keys, json: Json = False) -> None:
    """Delete documents by key.

    The exit code is 1 if none of them was there.
    """
    wanted = [unicode_text(key) for key in dict.fromkeys(keys)]
    with session(context).fleet() as fleet:
        deleted = fleet.collection(name).delete(wanted)
    if json:
        print_json({"deleted": deleted})
    else:
        say(f"deleted {quantity(len(deleted), 'document')}")
    gone = set(deleted)
    for key in wanted:
        if key not in gone:
            note(f"not there: {key}")
    if not deleted:
        raise typer.Exit(1)


@contextmanager
def _stays_queued() -> Iterator[None]:
    """Whoever leaves with Ctrl-C is told what becomes of the part that was read."""
    try:
        yield
    except KeyboardInterrupt:
        note("What was stored until now is embedded; enqueue again to go on with the rest")
        raise


def _report(
    fleet: Fleet,
    collection: Collection,
    job: Job,
    reading: ReadReport,
    *,
    wait: bool,
    json: bool,
) -> None:
    done = job.enqueued
    assert done is not None  # noqa: S101 - this process made the job
    if not json:
        note_report(reading)
        say(_summary(done))
        say_rejections(done.rejections, done.rejected)
    stored = done.documents + done.unchanged
    status = job.wait(progress=True) if wait and stored else None
    if json:
        embedded = {"job": status_json(status) if status else None}
        print_json(asdict(done) | {"read": report_json(reading)} | embedded)
    if not stored and done.rejected:
        first = done.rejections[0]
        raise NothingAccepted(
            count=done.rejected, key=first.key, reason=one_line(first.reason), name=collection.name
        )
    if done.rejected:
        note(f"See what was rejected: embedfleet failures {collection.name}")
    if status is not None:
        _judge(status)
    elif done.batches:
        _hint(fleet, collection, done)


def _judge(status: JobStatus) -> None:
    """What the end of a job means for the exit code."""
    if status.failed:
        note(f"See what failed: embedfleet failures {status.collection}")
    if status.state == "cancelled" or (status.failed and not status.embedded):
        raise typer.Exit(1)


def _hint(fleet: Fleet, collection: Collection, done: Enqueued) -> None:
    from embedfleet.progress import command, has_worker

    queue = collection.info.queue
    if not done.rung:
        note("Redis did not hear of it. That is no loss: workers that run pick it up by themselves")
    if has_worker(fleet, queue):
        note(f"Follow it: {command(fleet.settings, 'watch')}")
    else:
        start = command(fleet.settings, f"worker --queue {queue}")
        note(f"No worker serves queue {queue}. Start one: {start}")


def _summary(done: Enqueued) -> str:
    parts = [
        quantity(done.documents, "document"),
        f"{done.unchanged:,} unchanged",
        quantity(done.chunks, "chunk"),
        _reused(done),
        quantity(done.batches, "batch", "batches"),
    ]
    if done.rejected:
        parts.append(f"{done.rejected:,} rejected")
    return f"job {done.job_id}: {', '.join(parts)}"


def _reused(done: Enqueued) -> str:
    """Texts that are not embedded anew; workers copy those of other collections."""
    words = f"{done.reused + done.elsewhere:,} reused"
    return f"{words} ({done.elsewhere:,} from another collection)" if done.elsewhere else words


def say_rejections(rejections: list[Rejection], total: int) -> None:
    """The rejections by code, the first few of each."""
    by_code: dict[str, list[Rejection]] = defaultdict(list)
    for rejection in rejections:
        by_code[rejection.code].append(rejection)
    for code, those in by_code.items():
        say(f"{code}: {len(those):,}")
        for each in those[:EXAMPLES]:
            say(f"  {one_line(each.key)}: {one_line(each.reason)}")
        if len(those) > EXAMPLES:
            say(f"  and {len(those) - EXAMPLES:,} more")
    if total > len(rejections):
        say(f"(the first {len(rejections):,} of {total:,} rejections)")
