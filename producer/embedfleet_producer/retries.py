"""Writes of a producer that are tried again: a window is not lost with a connection."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from contextvars import ContextVar
from itertools import count
from typing import TypeVar

import psycopg

from embedfleet_schema.database_errors import Blocked

log = logging.getLogger(__name__)

Result = TypeVar("Result")

# A write meets a deadlock or a lost connection this often before the call gives up.
TRIES = 6
FIRST_PAUSE_S = 0.2
# No further try begins so long after the first one: each may wait for a connection, too.
GIVE_UP_S = 120.0

_TRANSIENT = (
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
    psycopg.OperationalError,
)

# Whether the write around this one is tried again; None where there is none around it.
_around: ContextVar[bool | None] = ContextVar("_around", default=None)


def retried(write: Callable[[bool], Result]) -> Result:
    """The result of `write`, which is tried again where PostgreSQL lost it or was away.

    It is told whether it is tried again: a commit whose answer was lost may have gone through. One
    inside another is tried again with that: six tries of six would be half an hour.
    """
    around = _around.get()
    if around is not None:
        return write(around)
    until = time.monotonic() + GIVE_UP_S
    for attempt in count(1):
        token = _around.set(attempt > 1)
        try:
            return write(attempt > 1)
        except _TRANSIENT as error:
            # Who waits for a lock has waited for as long as the settings say, each time.
            late = time.monotonic() > until and not isinstance(error, Blocked)
            if attempt == TRIES or late:
                raise
            pause = FIRST_PAUSE_S * 2**attempt * random.uniform(0.5, 1.0)  # noqa: S311
            reason = error if isinstance(error, Blocked) else type(error).__name__
            log.warning("not stored, next try in %.1f s: %s", pause, reason)
            time.sleep(pause)
        finally:
            _around.reset(token)
    raise AssertionError
