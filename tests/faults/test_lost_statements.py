"""A producer whose connection is terminated at any statement of a window stores it all the same."""

import itertools
import threading

import psycopg
import pytest

import embedfleet as ef
from embedfleet_producer import retries
from plugins.fleets import ask, drain
from plugins.worker_processes import eventually


class Terminator:
    """Ends the backend of one statement, of all that are run between `start` and the end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
        self._monkeypatch = monkeypatch
        self._url = url
        self._lock = threading.Lock()
        self.numbers = itertools.count()
        self.ended: str | None = None
        self.at = -1

    def arm(self, at: int) -> None:
        """Terminate at statement `at`; count them all."""
        self.numbers, self.at, self.ended = itertools.count(), at, None
        for name in ("execute", "executemany", "copy"):
            original = getattr(psycopg.Cursor, name)
            self._monkeypatch.setattr(psycopg.Cursor, name, self._counted(original))

    def disarm(self) -> int:
        """Stop; returns how many statements there were."""
        self._monkeypatch.undo()
        return next(self.numbers)

    def _counted(self, original):
        def counted(cursor, query, *arguments, **named):
            with self._lock:
                mine = next(self.numbers) == self.at
            if mine:
                self.ended = str(query)
                self._terminate(cursor.connection.info.backend_pid)
            return original(cursor, query, *arguments, **named)

        return counted

    def _terminate(self, pid: int) -> None:
        """By a thread that this module does not count, as its own cursor is not."""
        with psycopg.connect(self._url, autocommit=True, cursor_factory=_Uncounted) as conn:
            conn.execute("SELECT pg_terminate_backend(%s)", [pid])
            there = "SELECT FROM pg_stat_activity WHERE pid = %s"
            eventually(lambda: conn.execute(there, [pid]).fetchone() is None)


class _Uncounted(psycopg.Cursor):
    """A cursor whose statements are the test's own."""

    execute = psycopg.Cursor.execute


@pytest.fixture
def fleet(migrated_url, redis_url):
    settings = {"batch_tokens_cpu": 64, "heartbeat_seconds": 600, "lease_seconds": 1_200}
    with ef.connect(migrated_url, redis_url, **settings) as fleet:
        yield fleet


def first(number):
    return [ef.Document(f"d{n}", f"text {number} of {n}") for n in range(4)]


def test_a_connection_may_be_lost_at_every_statement_of_a_window(
    fleet, migrated_url, worker, monkeypatch
):
    monkeypatch.setattr(retries, "FIRST_PAUSE_S", 0.0)
    docs = fleet.collection("docs", model="fake/16")
    docs.enqueue(first("zero"))
    runtime = worker()
    drain(runtime)
    terminated = set()
    for number in itertools.count():
        terminator = Terminator(pytest.MonkeyPatch(), migrated_url)

        def source(terminator=terminator, number=number):
            # The job is made by now: what follows are the statements of its windows.
            for n, document in enumerate(first(number)):
                if n == 1:
                    terminator.arm(number)
                yield document
            yield ef.Document("empty", "")

        job = docs.enqueue(source())
        terminator.disarm()
        if terminator.ended is None:
            break
        terminated.add(terminator.ended)
        assert job.status.state != "interrupted"
        drain(runtime)
        assert ("done", 4) == (job.status.state, docs.counts().live_documents), terminator.ended
        texts = ask(fleet, "SELECT content FROM embedfleet.docs ORDER BY document")
        assert [(f"text {number} of {n}",) for n in range(4)] == texts, terminator.ended
    assert len(terminated) > 15
    found = docs.audit()
    assert (0, 0, 4) == (found.missing, found.extra, found.documents)
