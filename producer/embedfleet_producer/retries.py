"""Writes of a producer that are tried again: a window is not lost with a connection."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from itertools import count
from typing import TypeVar

import psycopg

from embedfleet_schema.database_errors import Blocked

log = logging.getLogger(__name__)

Result = TypeVar("Result")

# A write meets a deadlock or a lost connection this often before the call gives up.
TRIES = 6
FIRST_PAUSE_S = 0.2

_TRANSIENT = (
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
    psycopg.OperationalError,
)


def retried(write: Callable[[bool], Result]) -> Result:
    """The result of `write`, which is tried again where PostgreSQL lost it or was away.

    It is told whether it is tried again: a commit whose answer was lost may have gone through.
    """
    for attempt in count(1):
        try:
            return write(attempt > 1)
        except _TRANSIENT as error:
            if attempt == TRIES:
                raise
            pause = FIRST_PAUSE_S * 2**attempt * random.uniform(0.5, 1.0)  # noqa: S311
            reason = error if isinstance(error, Blocked) else type(error).__name__
            log.warning("not stored, next try in %.1f s: %s", pause, reason)
            time.sleep(pause)
    raise AssertionError
