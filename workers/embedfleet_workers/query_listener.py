"""The thread that answers texts of queries: it hears of them from PostgreSQL, by LISTEN."""

from __future__ import annotations

import logging
import select
import socket
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import Connection
from psycopg_pool import PoolTimeout

from embedfleet_schema import session
from embedfleet_schema.database import Database, OwnConnection
from embedfleet_schema.database_errors import DatabaseUnreachable, PoolerInTheWay
from embedfleet_schema.errors import EmbedfleetError
from embedfleet_schema.opening import closed_on_error
from embedfleet_schema.store import query_requests
from embedfleet_workers.query_answers import QueryAnswers
from embedfleet_workers.reasons import describe

log = logging.getLogger(__name__)

# A pooler passes no notification on: there, requests are looked for so often.
POLL_S = 0.5
# Between two looks where requests are heard of: a network may have lost one.
LOOK_S = 5.0
RETRY_S, LONGEST_RETRY_S = 1.0, 15.0


class Ears:
    """A session that hears of requests, or of what else is notified with one of some payloads;
    where only a pooler is known, one that hears nothing.
    """

    def __init__(
        self,
        db: Database,
        payloads: Collection[str],
        *,
        listen: Callable[[Connection[Any]], None] = query_requests.listen,
        what: str = "queries",
        look_s: float = LOOK_S,
    ) -> None:
        """`what` is heard of, for messages."""
        self._db = db
        self._payloads = payloads
        self._listen = listen
        self._what = what
        self._look_s = look_s
        self._deaf = OwnConnection(db)
        self._conn: Connection[Any] | None = None
        # What `wake` writes to and `wait` reads from; there while it is open.
        self._pair: tuple[socket.socket, socket.socket] | None = None
        self._guard = threading.Lock()

    def open(self) -> None:
        """Open the session, if it is not open.

        Raises:
            DatabaseUnreachable: nobody answers.
        """
        if self._pair is not None:
            return
        self._conn = self._listening()
        with self._guard:
            self._pair = socket.socketpair()

    def _listening(self) -> Connection[Any] | None:
        try:
            conn = self._db.direct()
        except PoolerInTheWay:
            log.info("behind a pooler, %s are looked for every %.1f s", self._what, POLL_S)
            return None
        except DatabaseUnreachable as error:
            if self._db.direct_url == self._db.url:
                raise
            # The way through the pooler may be the only one from this machine.
            log.warning("%s are looked for every %.1f s: %s", self._what, POLL_S, error)
            return None
        with closed_on_error(conn):
            self._listen(conn)
        return conn

    @contextmanager
    def transaction(self) -> Iterator[Connection[Any]]:
        if self._conn is None:
            with self._deaf.transaction() as conn:
                yield conn
        else:
            with session.transaction(self._conn, lock_wait_s=self._db.lock_wait_s):
                yield self._conn

    def wait(self) -> None:
        """Until something may be there to be answered, or `wake` is called."""
        woken = [self._pair[0]] if self._pair is not None else []
        if self._conn is None:
            _ready(woken, POLL_S)
            return
        while _ready([*woken, self._conn], self._look_s) == [self._conn]:
            if any(each.payload in self._payloads for each in self._conn.notifies(timeout=0)):
                return

    def heed(self, step: Callable[[], bool], stopping: threading.Event, otherwise: str) -> None:
        """Take a step whenever something may be there, until it is time to stop; a step says
        whether the next one comes without waiting. Where the database does not let it, that is
        said, as what is the case `otherwise`, and it is tried again, later each time.
        """
        pause_s = RETRY_S
        while not stopping.is_set():
            try:
                self.open()
                while not stopping.is_set():
                    goes_on = step()
                    pause_s = RETRY_S
                    if not goes_on:
                        self.wait()
            except (psycopg.Error, PoolTimeout, EmbedfleetError) as error:
                text = "%s, trying again in %.0f s: %s"
                log.warning(text, otherwise, pause_s, describe(error))
                self.close()
                stopping.wait(pause_s)
                pause_s = min(2 * pause_s, LONGEST_RETRY_S)
        self.close()

    def wake(self) -> None:
        """From another thread: let `wait` return."""
        with self._guard:
            if self._pair is not None:
                self._pair[1].send(b"!")

    def close(self) -> None:
        with self._guard:
            pair, self._pair = self._pair, None
        for end in pair or ():
            end.close()
        self._deaf.close()
        conn, self._conn = self._conn, None
        if conn is not None:
            conn.close()


class QueryListener(threading.Thread):
    """Answers requests for as long as the worker runs, beside the batches of its slots."""

    def __init__(self, ears: Ears, answers: QueryAnswers) -> None:
        super().__init__(name="embedfleet-queries", daemon=True)
        self._ears = ears
        self._answers = answers
        self._stopping = threading.Event()

    def run(self) -> None:
        self._ears.heed(
            lambda: self._answers.answer_some(self._ears.transaction),
            self._stopping,
            "queries are not answered",
        )

    def stop(self) -> None:
        self._stopping.set()
        self._ears.wake()
        if self.is_alive():
            self.join(timeout=10)


def _ready(sources: Sequence[Any], timeout_s: float) -> list[Any]:
    """Those that there is something to be read from, waiting for one."""
    # Not select(2): a process may have more than 1,024 files open.
    poll = select.poll()
    by_number = {source.fileno(): source for source in sources}
    for number in by_number:
        poll.register(number, select.POLLIN)
    return [by_number[number] for number, _ in poll.poll(timeout_s * 1e3)]
