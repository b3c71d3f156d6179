import psycopg
import pytest

from embedfleet_schema.database import LockTimeout
from embedfleet_schema.database_errors import DatabaseUnreachable, SchemaNewer
from embedfleet_schema.errors import LeaseLost, ModelNotFound, ModelRefused
from embedfleet_workers.decisions import (
    BACKOFF_LIMIT_S,
    Defer,
    Discard,
    Fail,
    Pause,
    Retry,
    Split,
    backoff,
    decide,
)
from embedfleet_workers.embedding_errors import (
    AboveRateLimit,
    BadAnswer,
    EmbedderBusy,
    InputAtFault,
    ProviderStopped,
)
from embedfleet_workers.stop import Stop

POISON = InputAtFault(reason="r")
ANSWER = BadAnswer(reason="r")
STOP = Stop("insufficient_quota", "the account is empty")
STOPPED = ProviderStopped(STOP, provider="openai", model="openai/m")


@pytest.mark.parametrize(
    ("error", "texts", "errors", "expected"),
    [
        (LeaseLost(batch=1, attempt=1), 9, 0, Discard()),
        (EmbedderBusy(seconds=7.5, reason="429"), 9, 99, Defer(7.5, keeps_place=True)),
        (EmbedderBusy(seconds=61, reason="429"), 9, 99, Defer(61.0)),
        (EmbedderBusy(seconds=86_400, reason="429"), 9, 99, Defer(600.0)),
        (AboveRateLimit(reason="r"), 9, 99, Split()),
        (AboveRateLimit(reason="r"), 1, 99, Defer(600.0)),
        (STOPPED, 9, 99, Pause(STOP)),
        (ModelNotFound(model="m", reason="r"), 9, 99, Defer(30.0, keeps_place=True)),
        (ModelRefused(model="m", reason="r"), 9, 99, Defer(30.0, keeps_place=True)),
        (DatabaseUnreachable(url="u", reason="r"), 9, 99, Defer(10.0)),
        (SchemaNewer(url="u", found="9", known="1"), 9, 99, Defer(10.0)),
        (psycopg.OperationalError(), 9, 99, Defer(10.0)),
        (LockTimeout(url="u", seconds=1.0, holders="pid 7", pid=7), 9, 99, Defer(10.0)),
        (psycopg.errors.DiskFull(), 9, 99, Defer(15.0)),
        (psycopg.errors.ReadOnlySqlTransaction(), 9, 99, Defer(10.0)),
        (psycopg.InterfaceError(), 9, 99, Defer(10.0)),
        (KeyboardInterrupt(), 9, 99, Defer(0.0)),
        (SystemExit(), 9, 99, Defer(0.0)),
        (POISON, 9, 0, Split()),
        (POISON, 1, 0, Fail("INPUT_REJECTED")),
        (ANSWER, 9, 1, Split()),
        (ANSWER, 1, 1, Fail("BAD_ANSWER")),
        (MemoryError(), 9, 1, Split()),
        (MemoryError(), 1, 1, Fail("OUT_OF_MEMORY")),
        (RuntimeError(), 9, 4, Split()),
        (RuntimeError(), 1, 4, Fail("EMBEDDING_FAILED")),
    ],
)
def test_an_error_has_one_consequence(error, texts, errors, expected):
    assert expected == decide(error, texts=texts, errors=errors, max_attempts=5)


@pytest.mark.parametrize(
    ("error", "errors"), [(ANSWER, 0), (MemoryError(), 0), (RuntimeError(), 3)]
)
def test_an_error_that_may_pass_is_retried(error, errors):
    assert isinstance(decide(error, texts=9, errors=errors, max_attempts=5), Retry)


def test_the_backoff_grows_is_jittered_and_has_a_limit():
    late = [backoff(50) for _ in range(500)]
    assert max(backoff(0) for _ in range(500)) <= 1.0
    assert max(late) <= BACKOFF_LIMIT_S
    assert len(set(late)) > 400
    assert sum(late) / len(late) == pytest.approx(BACKOFF_LIMIT_S / 2, rel=0.2)
