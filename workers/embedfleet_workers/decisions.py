"""What becomes of a batch whose embedding failed: a pure function from the error to a value."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg_pool import PoolTimeout

from embedfleet_schema.database_errors import DatabaseUnreachable, NotPermitted, SchemaNewer
from embedfleet_schema.errors import (
    ExtraMissing,
    KeyMissing,
    LeaseLost,
    ModelNotFound,
    ModelRefused,
    WorkerStartFailed,
)
from embedfleet_workers.backoff import full_jitter
from embedfleet_workers.embedding_errors import (
    AboveRateLimit,
    BadAnswer,
    EmbedderBusy,
    InputAtFault,
    JobPausedOrCancelled,
    ProviderStopped,
    ReservationSpent,
)
from embedfleet_workers.stop import Stop

BACKOFF_BASE_S = 1.0
BACKOFF_LIMIT_S = 60.0
# This process cannot do it, another may, and at once: it is this one that leaves the space alone.
ELSEWHERE_S = 30.0
DATABASE_WAIT_S = 10.0
# A batch that has to wait no longer than this keeps its place: behind 100,000 others it would wait
# for hours. A longer wait lets the others go first, and is asked about again after at most this.
SHORT_WAIT_S = 60.0
LONG_WAIT_S = 600.0
# Each try embeds a batch for nothing, so the whole fleet tries a full disk four times a minute.
DISK_FULL_S = 15.0
# A wrong answer is repeated once; after that some text of the batch is suspected.
BAD_ANSWERS_TO_SPLIT = 2


@dataclass(frozen=True, slots=True)
class Retry:
    """Try the batch again after a while and charge one error."""

    after_s: float


@dataclass(frozen=True, slots=True)
class Defer:
    """Try again later without a charge: the batch is not at fault."""

    after_s: float
    keeps_place: bool = False


@dataclass(frozen=True, slots=True)
class Split:
    """Halve the batch: some text in it is at fault."""


@dataclass(frozen=True, slots=True)
class Fail:
    """Give the one text up, with a code."""

    code: str


@dataclass(frozen=True, slots=True)
class Pause:
    """Pause the whole space: its provider takes nothing more until a person acts."""

    stop: Stop


@dataclass(frozen=True, slots=True)
class Discard:
    """Write nothing: the batch belongs to somebody else."""


Decision = Retry | Defer | Split | Fail | Pause | Discard


def decide(  # noqa: PLR0911, PLR0912, C901 - a table reads best as one
    error: BaseException, *, texts: int, errors: int, max_attempts: int
) -> Decision:
    """What to do with a batch of `texts` texts that was charged `errors` errors before this one."""
    match error:
        case LeaseLost():
            return Discard()
        case EmbedderBusy():
            return _wait(error.seconds)
        case AboveRateLimit():
            return Split() if texts > 1 else Defer(LONG_WAIT_S)
        case ProviderStopped():
            return Pause(error.stop)
        case ModelNotFound() | ModelRefused() | ExtraMissing() | KeyMissing() | WorkerStartFailed():
            return Defer(ELSEWHERE_S, keeps_place=True)
        case NotPermitted():
            return Defer(ELSEWHERE_S)
        case psycopg.errors.DiskFull():
            return Defer(DISK_FULL_S)
        case DatabaseUnreachable() | PoolTimeout() | SchemaNewer() | psycopg.OperationalError():
            return Defer(DATABASE_WAIT_S)
        case psycopg.InterfaceError() | psycopg.errors.ReadOnlySqlTransaction():
            return Defer(DATABASE_WAIT_S)
        case JobPausedOrCancelled() | ReservationSpent() | SystemExit() | KeyboardInterrupt():
            return Defer(0.0)
        case InputAtFault():
            return _isolate(texts, error.code)
        case BadAnswer() if errors + 1 >= BAD_ANSWERS_TO_SPLIT:
            return _isolate(texts, "BAD_ANSWER")
        case MemoryError() if errors >= 1:
            return _isolate(texts, "OUT_OF_MEMORY")
        case _ if errors + 1 >= max_attempts:
            return _isolate(texts, "EMBEDDING_FAILED")
    return Retry(backoff(errors))


def cooling_s(error: BaseException) -> float:
    """How long this process leaves the whole space alone: what one batch met with, all would."""
    match error:
        case EmbedderBusy():
            return error.seconds
        case ModelNotFound() | ModelRefused() | ExtraMissing() | KeyMissing() | WorkerStartFailed():
            return ELSEWHERE_S
    return 0.0


def _wait(seconds: float) -> Decision:
    if seconds <= SHORT_WAIT_S:
        return Defer(seconds, keeps_place=True)
    return Defer(min(seconds, LONG_WAIT_S))


def backoff(errors: int) -> float:
    """Seconds until a batch is tried again that was charged `errors` errors before."""
    return full_jitter(errors + 1, base_s=BACKOFF_BASE_S, limit_s=BACKOFF_LIMIT_S)


def _isolate(texts: int, code: str) -> Decision:
    return Split() if texts > 1 else Fail(code)
