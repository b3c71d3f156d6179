"""Harvest: the answers of a batch that ended, line by line into the tables.

It can end at any line and be done again: vectors are stored under the attempt that filed them, and
what was paid is entered once, with the end of the provider batch.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from embedfleet_schema.database import Database
from embedfleet_schema.errors import LeaseLost
from embedfleet_schema.failpoints import Failpoints
from embedfleet_schema.store import provider_batch_answers, provider_batches
from embedfleet_schema.store.batches import Batches, Lease
from embedfleet_schema.store.provider_batch_answers import Failed
from embedfleet_schema.store.provider_batches import ProviderBatch
from embedfleet_schema.store.usage import Spending, spending
from embedfleet_workers.embedders.api.answers import vectors_of
from embedfleet_workers.embedders.api.providers.adapter import Answer, Rejected, TooLarge
from embedfleet_workers.embedders.protocol import Vectors
from embedfleet_workers.embedding_errors import BadAnswer, InputAtFault
from embedfleet_workers.provider_batches.batch_api import BatchApi, RemoteBatch
from embedfleet_workers.provider_batches.lines import Address, Line, only_item, read_line
from embedfleet_workers.reasons import unquoted
from embedfleet_workers.stop import Stop

# Vectors in memory before they are stored. Answers come in any order, and what is stored at once
# is one transaction for each of its batches.
BUFFER_BYTES = 32_000_000
MISSING = "no answer"


@dataclass(slots=True)
class _Rows:
    """Answers of one batch that are not stored yet."""

    rows: list[int] = field(default_factory=list)
    vectors: list[Vectors] = field(default_factory=list)


class Harvest:
    """One provider batch, from its answers to the end of its batches."""

    def __init__(
        self,
        db: Database,
        batches: Batches,
        api: BatchApi,
        provider_batch: ProviderBatch,
        *,
        price: float | None,
        stopping: threading.Event,
        failpoints: Failpoints,
        buffer_bytes: int = BUFFER_BYTES,
    ) -> None:
        self._db = db
        self._batches = batches
        self._api = api
        self._provider_batch = provider_batch
        self._price = price
        self._stopping = stopping
        self._failpoints = failpoints
        self._buffer_bytes = buffer_bytes
        self._leases = {
            lease.id: lease for lease in provider_batch_answers.leases(db, provider_batch.id)
        }
        self._jobs = provider_batch_answers.jobs(db, provider_batch.id)
        self._waiting: defaultdict[int, _Rows] = defaultdict(_Rows)
        self._bytes = 0
        self._texts: Counter[int | None] = Counter()
        self._tokens: Counter[int | None] = Counter()
        self._refused: defaultdict[int, dict[int, str]] = defaultdict(dict)
        self._left: dict[int, str] = {}
        self._stop: Stop | None = None

    def run(self, remote: RemoteBatch) -> frozenset[str]:
        """Take all of it in; returns the queues whose workers have something to do now.

        Raises:
            NotDone: the answers could not be read to their end; nothing is settled yet.
        """
        for file_id in remote.answer_files:
            if not self._read(self._api.lines(file_id)):
                return frozenset()
        self._store()
        if self._stop is not None:
            provider_batches.pause(
                self._db, self._provider_batch.space_id, self._stop.code, self._stop.reason
            )
        queues = self._settle(remote)
        if provider_batches.finish(self._db, self._provider_batch, self._spent()):
            self._api.forget(*remote.answer_files, remote.input_file_id)
        return queues

    def _read(self, lines: Iterable[bytes]) -> bool:
        """Take the lines of a file; False where the process is to end before that."""
        for raw in lines:
            if self._stopping.is_set():
                return False
            line = read_line(raw, self._api.key)
            if line is not None:
                self._take(line)
            if self._bytes >= self._buffer_bytes:
                self._store()
        return True

    def _take(self, line: Line) -> None:
        lease = self._lease(line.address)
        match line.reply:
            case Answer() as answer:
                self._count(line.address, answer)
                if lease is not None:
                    self._keep(lease, line.address.index, answer)
            case Rejected(reason) | TooLarge(reason, by_limit=False) if lease is not None:
                self._refused[lease.id][lease.text_ids[line.address.index]] = reason
            case Stop() as stop:
                self._stop = self._stop or (stop if stop.whole_account else None)
                self._note(lease, line.code)
            case _:
                self._note(lease, line.code)

    def _lease(self, address: Address) -> Lease | None:
        """The batch that a line is for, if the provider batch still has it under that attempt."""
        lease = self._leases.get(address.batch)
        if lease is None or lease.attempt != address.attempt:
            return None
        return lease if address.index < len(lease.text_ids) else None

    def _count(self, address: Address, answer: Answer) -> None:
        """It was paid for, whether or not it is still wanted."""
        job_id = self._jobs.get(address.batch)
        usual = self._provider_batch.tokens // max(1, self._provider_batch.requests)
        self._texts[job_id] += 1
        self._tokens[job_id] += usual if answer.tokens is None else answer.tokens

    def _keep(self, lease: Lease, index: int, answer: Answer) -> None:
        try:
            vectors = vectors_of(only_item(answer.items), 1, lease.collection.space)
        except BadAnswer:
            self._note(lease, "BAD_ANSWER")
            return
        waiting = self._waiting[lease.id]
        waiting.rows.append(index)
        waiting.vectors.append(vectors)
        self._bytes += vectors.nbytes

    def _note(self, lease: Lease | None, code: str) -> None:
        if lease is not None:
            self._left.setdefault(lease.id, code)

    def _store(self) -> None:
        for batch_id, waiting in self._waiting.items():
            matrix = np.concatenate(waiting.vectors)
            try:
                self._batches.store(self._leases[batch_id], waiting.rows, matrix)
            except LeaseLost:
                del self._leases[batch_id]
            self._failpoints.hit("after_provider_batch_part")
        self._waiting.clear()
        self._bytes = 0

    def _settle(self, remote: RemoteBatch) -> frozenset[str]:
        """Close each batch: what was not answered goes to the workers."""
        everything = not self._texts and sum(map(len, self._refused.values())) > 1
        queues: set[str] = set()
        for lease in self._leases.values():
            refused = self._refused[lease.id]
            code = self._left.get(lease.id, MISSING)
            if everything:
                # More likely the request is at fault than every text: who asks live finds out.
                refused, code = {}, "every text was refused"
            reason = f"the batch API: {remote.status}, {code or MISSING}"
            verdicts = self._verdicts(lease, refused)
            if provider_batch_answers.settle(self._db, lease, verdicts, reason):
                queues.add(lease.collection.queue)
        return frozenset(queues)

    def _verdicts(self, lease: Lease, refused: dict[int, str]) -> dict[int, Failed]:
        """Failures with reasons that quote no text."""
        if not refused:
            return {}
        texts = provider_batch_answers.texts(self._db, lease.collection, list(refused))
        return {
            text_id: Failed(InputAtFault.code, unquoted(reason, [texts.get(text_id, "")]))
            for text_id, reason in refused.items()
        }

    def _spent(self) -> dict[int | None, Spending]:
        return {
            job_id: spending(
                requests=texts, texts=texts, tokens=self._tokens[job_id], price=self._price
            )
            for job_id, texts in self._texts.items()
        }
