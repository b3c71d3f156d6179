"""What a pipeline says of the batches that it took."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from embedfleet_schema.types import Queue


class Outcome(StrEnum):
    """What became of a batch, or why none was taken."""

    IDLE = "idle"
    DONE = "done"
    RETRY = "retry"
    DEFER = "defer"
    SPLIT = "split"
    FAIL = "fail"
    STOPPED = "stopped"
    LOST = "lost"
    PAUSED = "paused"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class BatchStats:
    """What happened to one batch; times in seconds. Observers get one for each claim.

    Where answers are stored as they arrive, `embed_s` is the time of both.
    """

    batch: int
    queue: Queue
    space: str
    outcome: Outcome
    texts: int
    tokens: int
    claim_s: float
    embed_s: float
    commit_s: float
