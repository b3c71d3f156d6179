"""The lane's thread: files, polls, harvests. One process of the whole fleet acts at a time."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from functools import cached_property
from uuid import uuid4

from embedfleet_schema.catalogue.batch_prices import lane_price
from embedfleet_schema.database import Database
from embedfleet_schema.errors import FailpointHit
from embedfleet_schema.failpoints import Failpoints
from embedfleet_schema.leadership import LANE, Leadership
from embedfleet_schema.settings import Settings
from embedfleet_schema.store import lane
from embedfleet_schema.store.batches import Batches
from embedfleet_schema.store.lane import LaneFile
from embedfleet_schema.types import QUEUES, Queue
from embedfleet_workers.lane import endings
from embedfleet_workers.lane.batch_api import BatchApi, NotDone, Remote
from embedfleet_workers.lane.filing import DEAD_AFTER_S, Filer
from embedfleet_workers.lane.harvest import BUFFER_BYTES, Harvest
from embedfleet_workers.reasons import describe
from embedfleet_workers.stop import Stop

log = logging.getLogger(__name__)

# A producer that was heard of this long ago brings nothing more: what it left is filed.
PATIENCE_S = 600.0
# The provider promises 24 hours. What is late is called off, then fetched as far as it came.
LATE_S = 26 * 3_600.0
LOST_S = 28 * 3_600.0


class LaneRunner(threading.Thread):
    """Looks after the batch lane for as long as the worker runs."""

    def __init__(
        self,
        settings: Settings,
        ring: Callable[[Queue], object] = lambda _: None,
        *,
        dead_after_s: float = DEAD_AFTER_S,
        patience_s: float = PATIENCE_S,
        buffer_bytes: int = BUFFER_BYTES,
    ) -> None:
        """`ring` tells workers of a queue that there is work."""
        super().__init__(name="embedfleet-lane", daemon=True)
        self._settings = settings
        self._ring = ring
        self._dead_after_s = dead_after_s
        self._patience_s = patience_s
        self._buffer_bytes = buffer_bytes
        self._db = Database(
            settings.database,
            direct_url=settings.direct_database,
            max_connections=2,
            lock_wait_s=settings.lock_wait_seconds,
        )
        # What is written is fenced by the attempt; the owner of a lane's lease is its file.
        self._batches = Batches(self._db, owner=uuid4(), lease_seconds=lane.LEASE_S)
        self._failpoints = Failpoints.parse(settings.failpoints)
        self._leadership = Leadership(self._db, LANE)
        self._stopping = threading.Event()
        self._said = ""

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.run_once()
            except Exception as error:  # noqa: BLE001 - nobody would start the thread again
                self._say(describe(error))
            # Jitter keeps a fleet that started together from looking together.
            self._stopping.wait(self._settings.lane_seconds * random.uniform(0.8, 1.2))  # noqa: S311

    def stop(self) -> None:
        """End soon: what is under way is taken up by the next process."""
        self._stopping.set()
        if self.is_alive():
            self.join(timeout=10)
        if "_api" in self.__dict__:
            self._api.close()
        self._db.close()

    def run_once(self) -> bool:
        """Look once at everything; False where another process is just doing that."""
        files = lane.files(self._db)
        due = lane.due(self._db, patience_s=self._patience_s)
        if not (files or due):
            return True
        # Without a key it is left to a process that has one.
        filer = self._filer
        if not self._leadership.take():
            return False
        try:
            for file in lane.files(self._db):
                if not self._stopping.is_set():
                    self._look(file, filer)
            while not self._stopping.is_set() and self._file_once(filer):
                pass
        finally:
            self._leadership.give_back()
        return True

    def _look(self, file: LaneFile, filer: Filer) -> None:
        """See to one file; what goes wrong with it must not hold up the others."""
        try:
            if file.state == "filing":
                self._tell(filer.recover(file).queues)
                self._mind_age(file)
            else:
                self._poll(file)
        except FailpointHit:
            raise
        except Exception as error:  # noqa: BLE001 - see above
            log.warning("lane file %d: %s", file.id, describe(error))
            self._stays(file, describe(error))

    def _poll(self, file: LaneFile) -> None:
        assert file.batch_id is not None  # noqa: S101 - it is set with the state
        if file.leased and not file.wanted:
            log.info("lane file %d: its jobs are cancelled", file.id)
            lane.drop_cancelled(self._db, file)
        try:
            remote = self._api.retrieve(file.batch_id)
        except NotDone as error:
            self._not_found(file, error)
            return
        if not remote.ended:
            self._waits(file, remote)
        elif remote.status == "failed" and not remote.answer_files:
            self._tell(endings.failed(self._db, file, remote.faults).queues)
            self._api.forget(remote.input_file_id)
        else:
            self._tell(self._harvest(file).run(remote))

    def _not_found(self, file: LaneFile, error: NotDone) -> None:
        match error.reply:
            case Stop(whole_account=False) if not self._api.may_know(file.account):
                self._stays(file, "it was filed with another account")
            case Stop(whole_account=False):
                reason = "it does not know the batch any more"
                ended = endings.live(self._db, file, "batch_not_found", reason, answered=True)
                self._tell(ended.queues)
            case Stop(code, reason):
                lane.pause(self._db, file.space_id, code, reason)
                self._stays(file, reason)
            case _:
                raise error

    def _waits(self, file: LaneFile, remote: Remote) -> None:
        """Nothing to fetch yet; call off what nobody wants, and what is late."""
        unwanted = not file.wanted or file.age_s > LATE_S
        if unwanted and remote.status != "cancelling":
            self._api.cancel(remote.id)
        self._stays(file)

    def _stays(self, file: LaneFile, reason: str | None = None) -> None:
        """It was seen to, and is looked at again, unless it is too old for that."""
        lane.looked(self._db, file, reason)
        self._mind_age(file)

    def _mind_age(self, file: LaneFile) -> None:
        """The last way out: whatever keeps a file from its end, its texts are not held for ever."""
        if file.age_s > LOST_S:
            reason = "it is long overdue, and cannot be fetched or called off"
            self._tell(endings.live(self._db, file, "late", reason, answered=True).queues)

    def _harvest(self, file: LaneFile) -> Harvest:
        return Harvest(
            self._db,
            self._batches,
            self._api,
            file,
            price=self._price_of(file.model) if file.price is None else file.price,
            stopping=self._stopping,
            failpoints=self._failpoints,
            buffer_bytes=self._buffer_bytes,
        )

    def _file_once(self, filer: Filer) -> bool:
        """One file of each space that is due; whether there was any."""
        filed = False
        for space_id, model in lane.due(self._db, patience_s=self._patience_s):
            if self._stopping.is_set():
                break
            given_back = filer.file(space_id, model)
            if given_back is not None:
                filed = True
                self._tell(given_back.queues)
        return filed

    @cached_property
    def _api(self) -> BatchApi:
        return BatchApi(self._settings)

    @cached_property
    def _filer(self) -> Filer:
        return Filer(
            self._db,
            self._batches,
            self._api,
            self._failpoints,
            self._price_of,
            dead_after_s=self._dead_after_s,
        )

    def _price_of(self, model: str) -> float | None:
        return lane_price(model, self._settings.prices)

    def _tell(self, queues: frozenset[str]) -> None:
        for queue in QUEUES:
            if queue in queues:
                self._ring(queue)

    def _say(self, what: str) -> None:
        """Once for each reason: a missing key is not news every half minute."""
        if what != self._said:
            self._said = what
            log.warning("the batch lane stands still here: %s", what)
