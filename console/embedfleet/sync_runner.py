"""`embedfleet sync run`: follow all syncs, told by PostgreSQL of each change."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from embedfleet.connections import Connections
from embedfleet.sync_following import TURN_S, following, prepared, until
from embedfleet.sync_verification import verify
from embedfleet_schema.store import syncs
from embedfleet_schema.store.syncs import SyncInfo
from embedfleet_schema.sync_errors import SyncRefused, SyncStopped
from embedfleet_workers.query_listener import LONGEST_RETRY_S, RETRY_S, Ears
from embedfleet_workers.reasons import describe

log = logging.getLogger(__name__)

# Syncs that are followed at the same time; each takes a turn of some seconds.
AT_ONCE = 4
# Between two looks where changes are heard of: one that was committed just when this process began
# to wait is not told.
LOOK_S = 1.0
# So often the table of an idle sync is looked at: a partition may be new, a trigger disabled.
EXAMINE_S = 15.0


class SyncRunner:
    """Follows syncs until it is told to stop. Any number of processes may do so at once: each sync
    is followed by one of them at a time.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._ears = Ears(
            connections.db, ("",), listen=syncs.listen, what="changes of tables", look_s=LOOK_S
        )
        self._verify_hours = connections.settings.sync_verify_hours
        self._stopping = threading.Event()
        self._guard = threading.Lock()
        self._busy: set[int] = set()
        # By sync: when it is looked at again, and how long it was put off for the last time.
        self._not_before: dict[int, tuple[float, float]] = {}
        self._examined: dict[int, float] = {}

    def run(self) -> None:
        with ThreadPoolExecutor(AT_ONCE, "embedfleet-sync") as pool:

            def step() -> bool:
                self._hand_out(pool)
                return False

            self._ears.heed(step, self._stopping, "tables are not followed")

    def stop(self) -> None:
        """Let `run` return, once what is being stored is stored; what is not begun yet stays in the
        outbox. A signal handler may call it.
        """
        self._stopping.set()

    def _hand_out(self, pool: ThreadPoolExecutor) -> None:
        """Begin what is due and not under way."""
        now = time.monotonic()
        due = syncs.due(self._connections.db, verify_hours=self._verify_hours)
        for sync_id, has_work in due.items():
            idle = now - self._examined.get(sync_id, -EXAMINE_S) >= EXAMINE_S
            put_off, _ = self._not_before.get(sync_id, (0.0, 0.0))
            with self._guard:
                if sync_id in self._busy or put_off > now or not (has_work or idle):
                    continue
                self._busy.add(sync_id)
            self._examined[sync_id] = now
            pool.submit(self._serve, sync_id, pool)

    def _serve(self, sync_id: int, pool: ThreadPoolExecutor) -> None:
        """Follow one sync for a turn; what is left then waits behind the others."""
        goes_on = False
        try:
            sync = syncs.by_id(self._connections.db, sync_id)
            goes_on = sync is not None and sync.paused_at is None and not self._follow(sync)
            self._not_before.pop(sync_id, None)
        except (SyncRefused, SyncStopped) as error:
            # Noted with the sync, which is looked at again later.
            if not self._stopping.is_set() and (sync is None or sync.problem is None):
                log.warning("%s", error)
            self._put_off(sync_id, EXAMINE_S)
        except Exception as error:  # noqa: BLE001 - one sync must not end the others
            log.warning("sync %d is tried again later: %s", sync_id, describe(error))
            self._put_off(sync_id, LONGEST_RETRY_S)
        if goes_on and not self._stopping.is_set():
            pool.submit(self._serve, sync_id, pool)
            return
        with self._guard:
            self._busy.discard(sync_id)

    def _follow(self, sync: SyncInfo) -> bool:
        """One turn; whether nothing is left that this process could do now."""
        table = prepared(self._connections.db, sync)
        goes_on = until(TURN_S)
        stopped = self._stopping.is_set
        with following(self._connections, sync, table, waits=False, stopped=stopped) as turn:
            if turn is None:
                return True
            done = turn.work(lambda: goes_on() and not stopped(), lambda _rows: None)
        if not done:
            return False
        if not self._is_verification_due(sync.id):
            return True
        found = verify(self._connections, sync, mend=True, stopped=stopped)
        if found is not None and found.differences:
            log.warning("%s: %d differences were found and mended", sync.name, found.differences)
        return True

    def _is_verification_due(self, sync_id: int) -> bool:
        """Also where it fell due in the turn that just ended."""
        return syncs.is_verification_due(
            self._connections.db, sync_id, verify_hours=self._verify_hours
        )

    def _put_off(self, sync_id: int, longest_s: float) -> None:
        _, before = self._not_before.get(sync_id, (0.0, 0.0))
        pause_s = min(max(2 * before, RETRY_S), longest_s)
        self._not_before[sync_id] = (time.monotonic() + pause_s, pause_s)
