"""Filing: pending batches of a space become one provider batch.

Whatever happens in between, its row tells how far it came: nothing is filed twice, and
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
from embedfleet_schema.store import provider_batch_answers, provider_batches
from embedfleet_schema.store.batches import Batches, Lease
from embedfleet_schema.store.provider_batches import GivenBack, ProviderBatch
from embedfleet_workers.embedders.api.providers.adapter import Faulty
from embedfleet_workers.embedding_errors import BatchApiError
from embedfleet_workers.provider_batches import endings
from embedfleet_workers.provider_batches.batch_api import BatchApi, NotDone, RemoteBatch
from embedfleet_workers.provider_batches.lines import Address, request_line

log = logging.getLogger(__name__)

# "can be up to 200 MB in size": https://platform.openai.com/docs/guides/batch
MOST_BYTES = 180_000_000
# What nobody has touched for so long is that of a dead process. Whether the provider has it
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
        provider_batch = provider_batches.take(
            self._db, space_id, model, price=price, account=account
        )
        if provider_batch is None:
            return None
        if not self._api.serves(model):
            return endings.to_workers(
                self._db, provider_batch, "no_batch_api", "there is none for the model"
            )
        self._failpoints.hit("after_provider_batch_lease")
        # Without a name: it is gone with the process, whatever ends that.
        with tempfile.TemporaryFile(prefix="embedfleet-") as content:
            requests, tokens = self._write(provider_batch, content)
            if not requests:
                provider_batches.finish(
                    self._db, provider_batch, {}, reason="all its texts had vectors"
                )
                return NOTHING
            content.flush()
            return self._send(provider_batch, content, requests, tokens)

    def recover(self, provider_batch: ProviderBatch) -> GivenBack:
        """See to one whose process died while it filed it."""
        if provider_batch.checked_s < self._dead_after_s:
            return NOTHING
        found = self._api.find(provider_batch.token, provider_batch.created_at)
        if found is not None:
            log.warning("provider batch %d: the provider has it, it goes on", provider_batch.id)
            provider_batches.filed(self._db, provider_batch, found.id, found.input_file_id)
            return NOTHING
        if not self._api.may_know(provider_batch.account):
            provider_batches.looked(self._db, provider_batch, "it was filed with another account")
            return NOTHING
        log.warning(
            "provider batch %d: the provider has no batch of it, it is filed anew",
            provider_batch.id,
        )
        reason = "its worker died before it was filed"
        given_back = provider_batches.give_up(
            self._db, provider_batch, code="not_filed", reason=reason
        )
        if provider_batch.input_file_id is not None:
            self._api.forget(provider_batch.input_file_id)
        else:
            self._api.forget_named(_name(provider_batch))
        return given_back

    def _write(self, provider_batch: ProviderBatch, content: IO[bytes]) -> tuple[int, int]:
        """Write the texts that need it; returns how many there are, and their tokens."""
        requests = tokens = 0
        surplus: list[int] = []
        for lease in provider_batch_answers.leases(self._db, provider_batch.id):
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
            provider_batches.spare(self._db, provider_batch, surplus)
        return requests, tokens

    def _lines(self, lease: Lease) -> list[bytes] | None:
        """The requests of a batch; None where it needs none, and is closed."""
        try:
            self._batches.reuse(lease)
        except LeaseLost:
            return None
        texts = provider_batch_answers.texts(self._db, lease.collection, lease.text_ids)
        if not texts:
            provider_batch_answers.settle(self._db, lease, {}, "")
            return None
        space = lease.collection.space
        return [
            request_line(Address(lease.id, lease.attempt, index), space, texts[text_id])
            for index, text_id in enumerate(lease.text_ids)
            if text_id in texts
        ]

    def _send(
        self, provider_batch: ProviderBatch, content: IO[bytes], requests: int, tokens: int
    ) -> GivenBack:
        provider_batch = replace(provider_batch, requests=requests, tokens=tokens)
        if not self._touch(provider_batch):
            return NOTHING
        try:
            input_file_id = self._api.upload(_name(provider_batch), content)
        except NotDone as error:
            return endings.refused(self._db, provider_batch, error)
        self._failpoints.hit("after_provider_batch_upload")
        if not self._touch(provider_batch, input_file_id):
            # This process was taken for dead, and its batches are filed by another one.
            self._api.forget(input_file_id)
            return NOTHING
        return self._create(provider_batch, input_file_id)

    def _create(self, provider_batch: ProviderBatch, input_file_id: str) -> GivenBack:
        try:
            made = self._api.create(input_file_id, provider_batch.token)
        except NotDone as error:
            if isinstance(error.reply, Faulty):
                # Nobody knows whether it was made: `recover` finds out.
                log.warning(
                    "provider batch %d: %s; it is looked for later", provider_batch.id, error
                )
                return NOTHING
            self._api.forget(input_file_id)
            return endings.refused(self._db, provider_batch, error)
        self._failpoints.hit("after_provider_batch_create")
        if provider_batches.filed(self._db, provider_batch, made.id, input_file_id):
            log.info(
                "provider batch %d: %d texts are filed as %s",
                provider_batch.id,
                provider_batch.requests,
                made.id,
            )
        else:
            self._take_back(made)
        return NOTHING

    def _take_back(self, made: RemoteBatch) -> None:
        """Somebody gave it up while this process was away."""
        try:
            self._api.cancel(made.id)
        except BatchApiError as error:
            log.warning("batch %s cannot be cancelled: %s", made.id, error)

    def _touch(self, provider_batch: ProviderBatch, input_file_id: str | None = None) -> bool:
        return provider_batches.touch(
            self._db,
            provider_batch,
            requests=provider_batch.requests,
            tokens=provider_batch.tokens,
            input_file_id=input_file_id,
        )


def _name(provider_batch: ProviderBatch) -> str:
    return f"embedfleet-{provider_batch.token}.jsonl"
