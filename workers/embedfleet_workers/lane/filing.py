"""Filing: pending batches of a space become one file, and that a batch of the provider's.

Whatever happens in between, the row of the file tells how far it came: nothing is filed twice, and
nothing is lost.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from dataclasses import replace
from typing import IO

from embedfleet_schema.database import Database
from embedfleet_schema.errors import LeaseLost
from embedfleet_schema.failpoints import Failpoints
from embedfleet_schema.store import lane, lane_answers
from embedfleet_schema.store.batches import Batches, Lease
from embedfleet_schema.store.lane import GivenBack, LaneFile
from embedfleet_workers.embedders.api.providers.adapter import Faulty
from embedfleet_workers.embedding_errors import BatchApiError
from embedfleet_workers.lane import endings
from embedfleet_workers.lane.batch_api import BatchApi, NotDone, Remote
from embedfleet_workers.lane.lines import Address, request_line

log = logging.getLogger(__name__)

# "can be up to 200 MB in size": https://platform.openai.com/docs/guides/batch
MOST_BYTES = 180_000_000
# A file that nobody has touched for so long is that of a dead process. Whether the provider has it
# is known by then: a request that was under way is over, and a new batch is in its lists.
DEAD_AFTER_S = 300.0

NOTHING = GivenBack(0, frozenset())


class Filer:
    """Files with one account."""

    def __init__(
        self,
        db: Database,
        batches: Batches,
        api: BatchApi,
        failpoints: Failpoints,
        price_of: Callable[[str], float | None],
        *,
        dead_after_s: float = DEAD_AFTER_S,
    ) -> None:
        self._db = db
        self._batches = batches
        self._api = api
        self._failpoints = failpoints
        self._price_of = price_of
        self._dead_after_s = dead_after_s

    def file(self, space_id: int, model: str) -> GivenBack | None:
        """File what is due of a space: None where nothing was, else what came back at once."""
        price, account = self._price_of(model), self._api.account
        file = lane.take(self._db, space_id, model, price=price, account=account)
        if file is None:
            return None
        if not self._api.serves(model):
            return endings.live(self._db, file, "no_batch_api", "there is none for the model")
        self._failpoints.hit("after_lane_lease")
        # Without a name: it is gone with the process, whatever ends that.
        with tempfile.TemporaryFile(prefix="embedfleet-") as content:
            requests, tokens = self._write(file, content)
            if not requests:
                lane.finish(self._db, file, {}, reason="all its texts had vectors")
                return NOTHING
            content.flush()
            return self._send(file, content, requests, tokens)

    def recover(self, file: LaneFile) -> GivenBack:
        """See to a file whose process died while it filed it."""
        if file.checked_s < self._dead_after_s:
            return NOTHING
        found = self._api.find(file.token, file.created_at)
        if found is not None:
            log.warning("lane file %d: the provider has it, it goes on", file.id)
            lane.filed(self._db, file, found.id, found.input_file_id)
            return NOTHING
        if not self._api.may_know(file.account):
            lane.looked(self._db, file, "it was filed with another account")
            return NOTHING
        log.warning("lane file %d: the provider has no batch of it, it is filed anew", file.id)
        reason = "its worker died before it was filed"
        given_back = lane.give_up(self._db, file, code="not_filed", reason=reason)
        if file.input_file_id is not None:
            self._api.forget(file.input_file_id)
        else:
            self._api.forget_named(_name(file))
        return given_back

    def _write(self, file: LaneFile, content: IO[bytes]) -> tuple[int, int]:
        """Write the texts that need it; returns how many there are, and their tokens."""
        requests = tokens = 0
        surplus: list[int] = []
        for lease in lane_answers.leases(self._db, file.id):
            lines = self._lines(lease)
            if lines is None:
                continue
            body = b"".join(lines)
            if content.tell() + len(body) > MOST_BYTES and requests:
                surplus.append(lease.id)
                continue
            content.write(body)
            requests += len(lines)
            tokens += lease.tokens * len(lines) // max(1, len(lease.text_ids))
        if surplus:
            lane.spare(self._db, file, surplus)
        return requests, tokens

    def _lines(self, lease: Lease) -> list[bytes] | None:
        """The requests of a batch; None where it needs none, and is closed."""
        try:
            self._batches.reuse(lease)
        except LeaseLost:
            return None
        texts = lane_answers.texts(self._db, lease.collection, lease.text_ids)
        if not texts:
            lane_answers.settle(self._db, lease, {}, "")
            return None
        space = lease.collection.space
        return [
            request_line(Address(lease.id, lease.attempt, index), space, texts[text_id])
            for index, text_id in enumerate(lease.text_ids)
            if text_id in texts
        ]

    def _send(self, file: LaneFile, content: IO[bytes], requests: int, tokens: int) -> GivenBack:
        file = replace(file, requests=requests, tokens=tokens)
        if not self._touch(file):
            return NOTHING
        try:
            input_file_id = self._api.upload(_name(file), content)
        except NotDone as error:
            return endings.refused(self._db, file, error)
        self._failpoints.hit("after_lane_upload")
        if not self._touch(file, input_file_id):
            # This process was taken for dead, and its batches are filed by another one.
            self._api.forget(input_file_id)
            return NOTHING
        return self._create(file, input_file_id)

    def _create(self, file: LaneFile, input_file_id: str) -> GivenBack:
        try:
            made = self._api.create(input_file_id, file.token)
        except NotDone as error:
            if isinstance(error.reply, Faulty):
                # Nobody knows whether it was made: `recover` finds out.
                log.warning("lane file %d: %s; it is looked for later", file.id, error)
                return NOTHING
            self._api.forget(input_file_id)
            return endings.refused(self._db, file, error)
        self._failpoints.hit("after_lane_create")
        if lane.filed(self._db, file, made.id, input_file_id):
            log.info("lane file %d: %d texts are filed as %s", file.id, file.requests, made.id)
        else:
            self._take_back(made)
        return NOTHING

    def _take_back(self, made: Remote) -> None:
        """Somebody gave the file up while this process was away."""
        try:
            self._api.cancel(made.id)
        except BatchApiError as error:
            log.warning("batch %s cannot be cancelled: %s", made.id, error)

    def _touch(self, file: LaneFile, input_file_id: str | None = None) -> bool:
        return lane.touch(
            self._db,
            file,
            requests=file.requests,
            tokens=file.tokens,
            input_file_id=input_file_id,
        )


def _name(file: LaneFile) -> str:
    return f"embedfleet-{file.token}.jsonl"
