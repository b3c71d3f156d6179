"""Why a document is not searchable yet: what was found, and the words for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from embedfleet_schema.amounts import quantity
from embedfleet_schema.store.spaces import PausedSpace
from embedfleet_schema.types import Delivery, Queue, serving

State = Literal["live", "incomplete", "waiting", "rejected", "unknown"]

SHOWN = 3
# Batches before another one, as far as they are counted.
MOST_AHEAD = 1_000


@dataclass(frozen=True, slots=True)
class ChunkFailure:
    """A chunk that could not be embedded."""

    position: int
    code: str
    reason: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a text was not accepted, and where it lies."""

    code: str
    reason: str
    source: str | None = None


@dataclass(frozen=True, slots=True)
class OpenBatch:
    """A batch that holds `texts` of what the document lacks.

    While it is leased, `worker` is host:pid, `leased_s` the time since the claim and `silent_s` the
    time since the worker's heartbeat; or `filed_at` is set, where no worker has it but the batch
    API of its provider. While it is pending, `not_before` is set if it must wait, and
    `ahead` counts the batches that workers take first; 1,001 stands for any larger number. `reason`
    is how its last attempt ended.
    """

    id: int
    job_id: int
    state: Literal["pending", "held", "leased"]
    queue: Queue
    delivery: Delivery
    texts: int
    attempt: int
    reason: str | None
    job_paused: bool
    not_before: datetime | None
    leased_s: float | None
    lease_until: datetime | None
    worker: str | None
    silent_s: float | None
    worker_alive: bool
    ahead: int | None
    filed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a document stands. `str()` of it is a paragraph for people.

    `state` is `live` (all of it), `incomplete` (live without some chunks: most often they failed),
    `waiting` (its newest version is not live), `rejected` (never accepted) or `unknown`. `chunks`,
    `stored` and `failures` are those of the newest version; `uncovered` counts texts that nothing
    works on. `paused` says why nothing of the collection's model is embedded, and `obstacle` why a
    worker of its queue claims nothing, if so. `limit` is what was learnt of a rate limit that
    nobody set.
    """

    collection: str
    key: str
    state: State
    version: int | None = None
    live_version: int | None = None
    job_id: int | None = None
    cancelled: bool = False
    chunks: int = 0
    stored: int = 0
    uncovered: int = 0
    failures: Sequence[ChunkFailure] = ()
    batches: Sequence[OpenBatch] = ()
    live_workers: int = 0
    paused: PausedSpace | None = None
    obstacle: str | None = None
    rejection: Verdict | None = None
    source: str | None = None
    limit: str | None = None

    @property
    def searchable(self) -> bool:
        """Whether readers see some version of it."""
        return self.live_version is not None

    def __str__(self) -> str:
        return " ".join(_sentences(self))


def _sentences(found: Explanation) -> Iterator[str]:
    match found.state:
        case "unknown":
            yield (
                f"There is no document {found.key!r} in {found.collection}. It was never enqueued, "
                "or it was deleted."
            )
        case "rejected":
            yield f"{found.key!r} was rejected{_because(found.rejection)}"
            yield "Fix it and enqueue it again."
        case "live":
            yield (
                f"{found.key!r} is live: version {found.version}, "
                f"{quantity(found.chunks, 'chunk')}, all of them embedded."
            )
        case "incomplete":
            yield (
                f"{found.key!r} is live in version {found.version}, without "
                f"{found.chunks - found.stored} of its {quantity(found.chunks, 'chunk')}."
            )
            yield from _of_what_is_lacking(found)
        case "waiting":
            yield from _of_waiting(found)
    if found.limit is not None:
        yield f"{found.limit}."
    if found.source is not None and (found.state != "live" or found.rejection is not None):
        yield f"It comes from {found.source}."
    if found.rejection is not None and found.state != "rejected":
        yield f"A later document with this key was rejected{_because(found.rejection)}"


def _of_waiting(found: Explanation) -> Iterator[str]:
    done = f"{found.stored} of {quantity(found.chunks, 'chunk')}"
    if found.live_version is None:
        yield f"{found.key!r} is not searchable yet: {done} embedded."
    else:
        yield (
            f"{found.key!r} is served in version {found.live_version}; of version {found.version}, "
            f"{done} embedded."
        )
    yield from _of_what_is_lacking(found)


def _of_what_is_lacking(found: Explanation) -> Iterator[str]:
    for batch in found.batches[:SHOWN]:
        yield from _of_batch(batch)
    if len(found.batches) > SHOWN:
        more = quantity(len(found.batches) - SHOWN, "more batch", "more batches")
        yield f"The rest is in {more}."
    yield from _of_failures(found)
    yield from _what_to_do(found)


def _of_batch(batch: OpenBatch) -> Iterator[str]:
    name = f"Batch {batch.id} (with {quantity(batch.texts, 'text')} of it)"
    if batch.filed_at is not None:
        yield (
            f"{name} has been filed with the provider's batch API since {_clock(batch.filed_at)}. "
            "The answer comes within 24 hours."
        )
    elif batch.state == "leased":
        yield (
            f"{name} has been leased to worker {batch.worker or 'unknown'} for "
            f"{batch.leased_s:.0f} s."
        )
        if not batch.worker_alive:
            yield (
                "That worker sends no heartbeat. Another worker gets the batch "
                "when its lease ends, "
                f"at {_clock(batch.lease_until)}."
            )
    elif batch.state == "held" and not batch.job_paused:
        yield f"{name} is held because its model is paused."
    elif batch.state == "held":
        yield (
            f"{name} is held because job {batch.job_id} is paused. "
            f"Go on with: embedfleet resume {batch.job_id}."
        )
    elif batch.not_before is not None:
        yield f"{name} waits until {_clock(batch.not_before)}{_why(batch)}."
    else:
        filing = batch.delivery == "provider_batch"
        what = "to be filed with its provider's batch API" if filing else "for a worker"
        yield f"{name} waits {what}{_ahead(batch.ahead)}{_why(batch)}."


def _ahead(batches: int | None) -> str:
    if not batches:
        return ""
    if batches > MOST_AHEAD:
        return f", more than {MOST_AHEAD:,} batches before it"
    return f", {quantity(batches, 'batch', 'batches')} before it"


def _of_failures(found: Explanation) -> Iterator[str]:
    for failure in found.failures[:SHOWN]:
        yield f"Chunk {failure.position} failed: {failure.code}: {failure.reason.rstrip('.')}."
    if len(found.failures) > SHOWN:
        yield f"{len(found.failures) - SHOWN} more failed: embedfleet failures {found.collection}."


def _what_to_do(found: Explanation) -> Iterator[str]:
    if found.paused is not None:
        yield f"{found.paused}. Go on with: embedfleet resume {found.paused.model}."
    if found.batches and found.obstacle is not None:
        yield f"Workers wait: {found.obstacle}"
    pending = [
        serving(each.queue, each.delivery) for each in found.batches if each.state == "pending"
    ]
    if pending and not found.live_workers:
        yield (
            f"No worker serves queue {pending[0]}. "
            f"Start one: embedfleet worker --queue {pending[0]}"
        )
    if found.uncovered and found.cancelled and found.state == "waiting":
        yield (
            f"Job {found.job_id} was cancelled before {quantity(found.uncovered, 'text')} of it "
            "had a vector. Enqueue the document again."
        )
    elif found.uncovered:
        yield (
            f"{quantity(found.uncovered, 'text')} of it {_wait(found.uncovered)} in no batch. "
            f"Queue what is missing: embedfleet audit {found.collection} --repair"
        )
    elif found.state == "incomplete" and not found.batches:
        # Without attempts it was refused before anyone tried, and would be refused again.
        if any(failure.attempts for failure in found.failures):
            yield f"Try again with: embedfleet retry {found.collection}"
        else:
            yield "A retry does not help. Change the text or the chunking, or use another model."
    elif not found.batches:
        yield (
            "Everything is embedded, but the document is not live. "
            f"Fix it: embedfleet audit {found.collection} --repair"
        )


def _wait(count: int) -> str:
    return "waits" if count == 1 else "wait"


def _why(batch: OpenBatch) -> str:
    if not batch.reason:
        return ""
    return f", because attempt {batch.attempt} ended with: {batch.reason.rstrip('.')}"


def _because(verdict: Verdict | None) -> str:
    if verdict is None:
        return "."
    place = "" if verdict.source is None else f" It is in {verdict.source}."
    return f": {verdict.code}: {verdict.reason.rstrip('.')}.{place}"


def _clock(at: datetime | None) -> str:
    return "once" if at is None else f"{at.astimezone():%H:%M:%S}"
