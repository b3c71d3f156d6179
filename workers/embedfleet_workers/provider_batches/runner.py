"""The provider batches' thread: files, polls, harvests. One process of the fleet acts at a time."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from functools import cached_property
from uuid import uuid4

from embedfleet_schema.catalogue.provider_batch_prices import provider_batch_price
from embedfleet_schema.database import Database
from embedfleet_schema.errors import FailpointHit
from embedfleet_schema.failpoints import Failpoints
from embedfleet_schema.leadership import PROVIDER_BATCHES, Leadership
from embedfleet_schema.settings import Settings
from embedfleet_schema.store import provider_batches
from embedfleet_schema.store.batches import Batches
from embedfleet_schema.store.provider_batches import ProviderBatch
from embedfleet_schema.types import QUEUES, Queue
from embedfleet_workers.provider_batches import endings
from embedfleet_workers.provider_batches.batch_api import BatchApi, NotDone, RemoteBatch
from embedfleet_workers.provider_batches.filing import DEAD_AFTER_S, Filer
from embedfleet_workers.provider_batches.harvest import BUFFER_BYTES, Harvest
from embedfleet_workers.reasons import describe
from embedfleet_workers.stop import Stop

log = logging.getLogger(__name__)

# A producer that was heard of this long ago brings nothing more: what it left is filed.
PATIENCE_S = 600.0
# The provider promises 24 hours. What is late is called off, then fetched as far as it came.
LATE_S = 26 * 3_600.0
LOST_S = 28 * 3_600.0


class ProviderBatchRunner(threading.Thread):
    """Looks after the provider batches for as long as the worker runs."""

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
        super().__init__(name="embedfleet-provider-batches", daemon=True)
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
        # What is written is fenced by the attempt; what a provider batch leased has no owner.
        self._batches = Batches(self._db, owner=uuid4(), lease_seconds=provider_batches.LEASE_S)
        self._failpoints = Failpoints.parse(settings.failpoints)
        self._leadership = Leadership(self._db, PROVIDER_BATCHES)
        self._stopping = threading.Event()
        self._said = ""

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.run_once()
            except Exception as error:  # noqa: BLE001 - nobody would start the thread again
                self._say(describe(error))
            # Jitter keeps a fleet that started together from looking together.
            self._stopping.wait(self._settings.provider_batch_seconds * random.uniform(0.8, 1.2))  # noqa: S311

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
        open_ones = provider_batches.unfinished(self._db)
        due = provider_batches.due(self._db, patience_s=self._patience_s)
        if not (open_ones or due):
            return True
        # Without a key it is left to a process that has one.
        filer = self._filer
        if not self._leadership.take():
            return False
        try:
            for provider_batch in provider_batches.unfinished(self._db):
                if not self._stopping.is_set():
                    self._look(provider_batch, filer)
            while not self._stopping.is_set() and self._file_once(filer):
                pass
        finally:
            self._leadership.give_back()
        return True

    def _look(self, provider_batch: ProviderBatch, filer: Filer) -> None:
        """See to one; what goes wrong with it must not hold up the others."""
        try:
            if provider_batch.state == "filing":
                self._tell(filer.recover(provider_batch).queues)
                self._mind_age(provider_batch)
            else:
                self._poll(provider_batch)
        except FailpointHit:
            raise
        except Exception as error:  # noqa: BLE001 - see above
            log.warning("provider batch %d: %s", provider_batch.id, describe(error))
            self._stays(provider_batch, describe(error))

    def _poll(self, provider_batch: ProviderBatch) -> None:
        assert provider_batch.remote_batch_id is not None  # noqa: S101 - it is set with the state
        if provider_batch.leased and not provider_batch.wanted:
            log.info("provider batch %d: its jobs are cancelled", provider_batch.id)
            provider_batches.drop_cancelled(self._db, provider_batch)
        try:
            remote = self._api.retrieve(provider_batch.remote_batch_id)
        except NotDone as error:
            self._not_found(provider_batch, error)
            return
        if not remote.ended:
            self._waits(provider_batch, remote)
        elif remote.status == "failed" and not remote.answer_files:
            self._tell(endings.failed(self._db, provider_batch, remote.faults).queues)
            self._api.forget(remote.input_file_id)
        else:
            self._tell(self._harvest(provider_batch).run(remote))

    def _not_found(self, provider_batch: ProviderBatch, error: NotDone) -> None:
        match error.reply:
            case Stop(whole_account=False) if not self._api.may_know(provider_batch.account):
                self._stays(provider_batch, "it was filed with another account")
            case Stop(whole_account=False):
                reason = "it does not know the batch any more"
                ended = endings.to_workers(
                    self._db, provider_batch, "batch_not_found", reason, answered=True
                )
                self._tell(ended.queues)
            case Stop(code, reason):
                provider_batches.pause(self._db, provider_batch.space_id, code, reason)
                self._stays(provider_batch, reason)
            case _:
                raise error

    def _waits(self, provider_batch: ProviderBatch, remote: RemoteBatch) -> None:
        """Nothing to fetch yet; call off what nobody wants, and what is late."""
        unwanted = not provider_batch.wanted or provider_batch.age_s > LATE_S
        if unwanted and remote.status != "cancelling":
            self._api.cancel(remote.id)
        self._stays(provider_batch)

    def _stays(self, provider_batch: ProviderBatch, reason: str | None = None) -> None:
        """It was seen to, and is looked at again, unless it is too old for that."""
        provider_batches.looked(self._db, provider_batch, reason)
        self._mind_age(provider_batch)

    def _mind_age(self, provider_batch: ProviderBatch) -> None:
        """The last way out: whatever keeps one from its end, its texts are not held for ever."""
        if provider_batch.age_s > LOST_S:
            reason = "it is long overdue, and cannot be fetched or called off"
            self._tell(
                endings.to_workers(self._db, provider_batch, "late", reason, answered=True).queues
            )

    def _harvest(self, provider_batch: ProviderBatch) -> Harvest:
        return Harvest(
            self._db,
            self._batches,
            self._api,
            provider_batch,
            price=self._price_of(provider_batch.model)
            if provider_batch.price is None
            else provider_batch.price,
            stopping=self._stopping,
            failpoints=self._failpoints,
            buffer_bytes=self._buffer_bytes,
        )

    def _file_once(self, filer: Filer) -> bool:
        """One provider batch of each space that is due; whether there was any."""
        filed = False
        for space_id, model in provider_batches.due(self._db, patience_s=self._patience_s):
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
        return provider_batch_price(model, self._settings.prices)

    def _tell(self, queues: frozenset[str]) -> None:
        for queue in QUEUES:
            if queue in queues:
                self._ring(queue)

    def _say(self, what: str) -> None:
        """Once for each reason: a missing key is not news every half minute."""
        if what != self._said:
            self._said = what
            log.warning("provider batches stand still here: %s", what)
