"""Documents: enqueue and delete them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.collections import Cutting
from embedfleet.cli.erasing import erase_keys
from embedfleet.cli.following import Following
from embedfleet.cli.indexing import following_load
from embedfleet.cli.jobs import goes_on
from embedfleet.cli.option_groups import ungrouped
from embedfleet.cli.output import note, one_line, print_json, say, status_json
from embedfleet.cli.parameters import (
    Budget,
    Json,
    LaneOption,
    Name,
    TenantOption,
    Wait,
    Where,
    optional_unicode,
    parse_where,
    unicode_text,
)
from embedfleet.cli.reading import (
    Mirror,
    Paths,
    Reading,
    Replace,
    note_shapes,
    read,
    report_json,
    say_rejections,
    say_report,
)
from embedfleet.cli.session import session
from embedfleet_schema.amounts import quantity
from embedfleet_schema.errors import NothingAccepted, UsageError
from embedfleet_schema.money import money
from embedfleet_schema.types import LARGEST_ID, MOST_PROCESSES
from embedfleet_schema.unicode_forms import unicode_forms

if TYPE_CHECKING:
    from embedfleet import Collection, Fleet, Job, JobStatus, ReadReport
    from embedfleet_producer.enqueue import Enqueued
    from embedfleet_producer.readers.reading import Reading as FolderReading

Strict = Annotated[
    bool, typer.Option("--strict", help="Exit with code 1 if any document is rejected.")
]
Keys = Annotated[list[str] | None, typer.Argument(metavar="KEY", help="The documents' keys.")]
OfJob = Annotated[
    int | None,
    typer.Option(
        "--job",
        metavar="JOB",
        min=1,
        max=LARGEST_ID,
        help="All documents that this job stored last.",
    ),
]
Prefix = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT", help="All documents whose keys start with this.", callback=optional_unicode
    ),
]
Model = Annotated[
    str | None,
    typer.Option(help="Create the collection with this model if it is new."),
]
ProviderBatches = Annotated[
    bool,
    typer.Option(
        "--provider-batches", help="Use the provider's batch API: half the price, within a day."
    ),
]
Processes = Annotated[
    int,
    typer.Option(
        min=1,
        max=MOST_PROCESSES,
        help="Cut texts in so many other processes. The result is the same.",
    ),
]
Webhook = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Tell this URL when the job has ended: a signed POST of its counts.",
        callback=optional_unicode,
    ),
]
Erase = Annotated[
    bool,
    typer.Option("--erase", help="Remove every trace of their texts, and say what may be left."),
]
Yes = Annotated[
    bool, typer.Option("--yes", help="With --mirror: delete also more than half of the source.")
]
Watch = Annotated[
    bool, typer.Option("--watch", help="Follow the folders until Ctrl-C: enqueue what changes.")
]


def add_to(app: typer.Typer) -> None:
    app.command()(ungrouped(enqueue))
    app.command()(delete)


def enqueue(
    context: typer.Context,
    name: Name,
    paths: Paths,
    *,
    model: Model = None,
    cutting: Cutting,
    budget: Budget = None,
    provider_batches: ProviderBatches = False,
    lane: LaneOption = None,
    tenant: TenantOption = None,
    reading: Reading,
    replace: Replace = False,
    mirror: Mirror = False,
    yes: Yes = False,
    watch: Watch = False,
    processes: Processes = 1,
    webhook: Webhook = None,
    wait: Wait = False,
    strict: Strict = False,
    json: Json = False,
) -> None:
    """Store files and folders, and queue what is new in them."""
    from embedfleet import ReadReport
    from embedfleet.progress import enqueue_progress

    if watch and (wait or strict):
        raise UsageError(reason="--watch goes on until Ctrl-C: leave out --wait and --strict")
    here = session(context)
    report = ReadReport()
    documents = read(here.settings(), paths, reading, report)
    with here.fleet() as fleet:
        collection = fleet.collection(name, model, chunking=cutting.chunking())
        put = partial(
            collection.enqueue,
            budget_usd=budget,
            provider_batches=provider_batches,
            lane=lane,
            tenant=tenant,
            replace=replace,
            mirror=mirror,
            confirm_deletions=yes,
            processes=processes,
            webhook=webhook,
        )
        if watch:
            _follow(put, lambda: read(here.settings(), paths, reading, ReadReport()), mirror, json)
            return
        with enqueue_progress() as show, _stays_queued():
            job = put(documents, on_window=show)
        with goes_on(job):
            if budget is not None and not json:
                note(f"The job costs at most {money(budget)}: it is paused before it costs more")
            _report(fleet, collection, job, report, wait=wait, json=json)
            done = job.enqueued
            if done is not None and (done.undeleted or (strict and done.rejected)):
                raise typer.Exit(1)


def _follow(
    put: Callable[..., Job], read_all: Callable[[], FolderReading], mirror: bool, json: bool
) -> None:
    def enqueued(documents: FolderReading) -> Enqueued:
        done = put(documents).enqueued
        assert done is not None  # noqa: S101 - this process made the job
        return done

    Following(read_all, enqueued, _summary, mirrors=mirror, json=json).until_interrupted()


def delete(
    context: typer.Context,
    name: Name,
    keys: Keys = None,
    *,
    job: OfJob = None,
    prefix: Prefix = None,
    where: Where = None,
    erase: Erase = False,
    json: Json = False,
) -> None:
    """Delete documents by key, job, start of the key, or metadata.

    The exit code is 1 if none was found, or if --erase left something.
    """
    if erase and not keys:
        raise UsageError(reason="--erase takes the keys of documents")
    if bool(keys) == (job is not None or prefix is not None or bool(where)):
        raise UsageError(reason="give keys, or select documents with --job, --prefix or --where")
    if keys:
        act = erase_keys if erase else _delete_keys
        act(context, name, keys, json=json)
        return
    wanted = parse_where(where or ())
    with session(context).fleet() as fleet:
        gone = fleet.collection(name).delete_matching(job_id=job, prefix=prefix, where=wanted)
    _say_deleted(gone, gone, json=json)


def _delete_keys(context: typer.Context, name: str, keys: list[str], *, json: bool) -> None:
    wanted = [unicode_text(key) for key in dict.fromkeys(keys)]
    with session(context).fleet() as fleet:
        deleted = fleet.collection(name).delete(wanted)
    for key in wanted:
        if not set(unicode_forms(key)) & set(deleted):
            note(f"not there: {key}")
    _say_deleted(deleted, len(deleted), json=json)


def _say_deleted(deleted: object, count: int, *, json: bool) -> None:
    if json:
        print_json({"deleted": deleted})
    else:
        say(f"deleted {quantity(count, 'document')}")
    if not count:
        raise typer.Exit(1)


@contextmanager
def _stays_queued() -> Iterator[None]:
    """Whoever leaves with Ctrl-C is told what becomes of the part that was read."""
    try:
        yield
    except KeyboardInterrupt:
        note("What is stored so far will be embedded. Enqueue again to store the rest")
        raise


def _report(
    fleet: Fleet,
    collection: Collection,
    job: Job,
    report: ReadReport,
    *,
    wait: bool,
    json: bool,
) -> None:
    done = job.enqueued
    assert done is not None  # noqa: S101 - this process made the job
    if not json:
        note_shapes(report)
        say(_summary(done))
        say_rejections(done.rejections, done.rejected)
        say_report(report)
    stored = done.documents + done.unchanged
    with following_load(fleet, collection, wanted=wait and bool(stored)):
        status = job.wait(progress=True) if wait and stored else None
    if json:
        embedded = {"job": status_json(status) if status else None}
        print_json(asdict(done) | {"read": report_json(report)} | embedded)
    if not stored and done.rejected:
        first = done.rejections[0]
        nothing = NothingAccepted(
            count=done.rejected, key=first.key, reason=one_line(first.reason), name=collection.name
        )
        if not json:
            raise nothing
        note(f"error: {nothing}")  # the data are printed already
        raise typer.Exit(nothing.exit_code)
    if done.failed:
        name, model = collection.name, collection.info.space.name
        chunks = quantity(done.failed, "chunk")
        note(f"{model} cannot embed {chunks}. See which: embedfleet failures {name}")
    if done.rejected:
        note(f"See what was rejected: embedfleet failures {collection.name}")
    if done.undeleted is not None:
        note(f"kept what may be gone: {one_line(done.undeleted)}")
    if status is not None:
        _judge(status)
    elif done.batches:
        _hint(fleet, collection, done)


def _judge(status: JobStatus) -> None:
    """What the end of a job means for the exit code."""
    if status.failed:
        note(f"See what failed: embedfleet failures {status.collection}")
    if status.state in ("cancelled", "interrupted") or (status.failed and not status.embedded):
        raise typer.Exit(1)


def _hint(fleet: Fleet, collection: Collection, done: Enqueued) -> None:
    from embedfleet.liveness import has_worker
    from embedfleet.progress import command

    queue = collection.info.queue
    if not done.rung:
        note(
            "Redis did not answer. Nothing is lost: running workers find the batches by themselves"
        )
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
    if done.awaited:
        parts.append(f"{done.awaited:,} queued by other jobs already")
    if done.failed:
        parts.append(f"{done.failed:,} failed")
    if done.rejected:
        parts.append(f"{done.rejected:,} rejected")
    if done.deleted:
        parts.append(f"{done.deleted:,} deleted")
    return f"job {done.job_id}: {', '.join(parts)}"


def _reused(done: Enqueued) -> str:
    """Texts that are not embedded anew; workers copy those of other collections."""
    words = f"{done.reused + done.elsewhere:,} reused"
    return f"{words} ({done.elsewhere:,} from another collection)" if done.elsewhere else words
