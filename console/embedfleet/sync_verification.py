"""Anti-entropy: a table is compared with its collection, and what differs is stored again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from embedfleet.connections import Connections
from embedfleet.sync_following import TURN_S, Following, following, prepared, until
from embedfleet_schema.store import syncs
from embedfleet_schema.store.syncs import SyncInfo
from embedfleet_schema.sync_errors import UnknownSync


@dataclass(frozen=True, slots=True)
class Verified:
    """What a comparison found. Of the rows that were `compared`, `missing` had no document, and
    `changed` had one of other content; `extra` documents had no row.
    """

    compared: int
    missing: int
    changed: int
    extra: int
    mended: bool

    @property
    def differences(self) -> int:
        return self.missing + self.changed + self.extra


def verify(
    connections: Connections,
    sync: SyncInfo,
    *,
    mend: bool,
    on_page: Callable[[int], object] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Verified | None:
    """Compare by pages, in turns: what changes meanwhile is followed in between. None where it was
    told to stop.

    Raises:
        SyncRefused, SyncStopped: the table cannot be read now.
        UnknownSync: it was dropped.
        Blocked: other processes had their turn for too long.
    """
    comparison = Comparison(mend=mend)
    while not comparison.is_over():
        now = syncs.by_id(connections.db, sync.id)
        if now is None:
            raise UnknownSync(name=sync.name)
        table = prepared(connections.db, now)
        with following(connections, now, table, waits=True, stopped=stopped) as turn:
            if turn is None:
                continue
            goes_on = until(TURN_S)
            while goes_on() and not comparison.is_over():
                if stopped():
                    return None
                # Nobody follows a paused one; what waits in its outbox is no difference.
                if turn.sync.paused_at is None:
                    turn.drain(goes_on)
                on_page(comparison.step(turn))
            if comparison.is_over():
                found = comparison.found()
                syncs.end_verification(turn.db, sync.id, found.differences, mended=mend)
    return comparison.found()


class Comparison:
    """How far a comparison has come."""

    def __init__(self, *, mend: bool) -> None:
        self._mend = mend
        self._position: list[str] | None = None
        self._compared = self._missing = self._changed = self._extra = 0
        self._rows_read = False
        self._is_over = False

    def is_over(self) -> bool:
        return self._is_over

    def found(self) -> Verified:
        return Verified(self._compared, self._missing, self._changed, self._extra, self._mend)

    def step(self, turn: Following) -> int:
        """Compare one page of rows, or all documents behind the last page; how many rows that were.

        Whatever was changed before a row was read, and is not stored yet, is in the outbox, because
        nobody else takes from it: so what differs and is not there, differs.
        """
        if self._rows_read:
            self._find_gone(turn)
            self._is_over = True
            return 0
        page = turn.page(self._position)
        differing: set[str] = set()
        for compared in turn.compare(page.rows):
            differing.update(compared.changed)
            refused = [each.key for each in compared.rejected if each.code != "KEY_TAKEN"]
            differing.update(self._held(turn, refused))
        self._settle(turn, differing)
        self._compared += len(page.rows)
        self._position = page.position
        self._rows_read = not page.rows
        return len(page.rows)

    def _settle(self, turn: Following, differing: set[str]) -> None:
        if not differing:
            return
        differing -= syncs.pending(turn.db, turn.sync.id, sorted(differing))
        held = len(self._held(turn, sorted(differing)))
        self._changed += held
        self._missing += len(differing) - held
        if self._mend:
            turn.follow(sorted(differing))

    def _find_gone(self, turn: Following) -> None:
        for keys in turn.gone():
            if not keys or syncs.is_emptied(turn.db, turn.sync.id):
                continue
            gone = sorted(set(keys) - syncs.pending(turn.db, turn.sync.id, keys))
            self._extra += len(self._held(turn, gone))
            if self._mend:
                turn.follow(gone)

    @staticmethod
    def _held(turn: Following, keys: list[str]) -> list[str]:
        return syncs.own_keys(turn.db, turn.collection, turn.sync.source, keys) if keys else []
