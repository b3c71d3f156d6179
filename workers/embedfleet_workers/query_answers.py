"""Vectors for texts that clients ask for: from the models that this process has loaded anyway."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import groupby
from typing import Any
from uuid import UUID

import numpy as np
import psycopg
from psycopg import Connection
from psycopg_pool import PoolTimeout

from embedfleet_schema.database import Database
from embedfleet_schema.database_errors import DatabaseUnreachable
from embedfleet_schema.errors import EmbedfleetError
from embedfleet_schema.store import query_requests, usage
from embedfleet_schema.store.claims import PriceOf
from embedfleet_schema.store.query_requests import QueryRequest
from embedfleet_schema.store.usage import Spending
from embedfleet_schema.types import Kind, Queue, Space
from embedfleet_schema.unreadable import UNREADABLE_SHARE, unread_reason
from embedfleet_schema.visible_text import NOTHING_VISIBLE, has_text
from embedfleet_workers.cooling import Cooling
from embedfleet_workers.decisions import cooling_s
from embedfleet_workers.embedders.checks import no_vectors
from embedfleet_workers.embedders.protocol import (
    Embedder,
    EmbedsInParts,
    KnowsItsWords,
    Spent,
    Vectors,
)
from embedfleet_workers.embedding_errors import BadAnswer, EmbedderBusy, InputAtFault
from embedfleet_workers.reasons import describe

log = logging.getLogger(__name__)

# Well before a claim ends (LEASE_S of the store).
EXTEND_S = 1.0

Transaction = Callable[[], AbstractContextManager[Connection[Any]]]


class QueryAnswers:
    """Takes texts that wait, and gives each its vector or the reason why it gets none."""

    def __init__(
        self,
        db: Database,
        queues: Sequence[Queue],
        embedder_for: Callable[[Space, Queue], Embedder],
        *,
        loaded: Callable[[], Sequence[Space]],
        cooling: Cooling,
        worker_id: UUID,
        price_of: PriceOf,
    ) -> None:
        """`loaded` tells which models are at hand."""
        self._queues = queues
        self._embedder_for = embedder_for
        self._loaded = loaded
        self._cooling = cooling
        self._worker_id = worker_id
        self._price_of = price_of
        self._db = db
        self._spaces: dict[int, Space] = {}

    def answer_some(self, transaction: Transaction) -> bool:
        """Answer what waits, up to a number; whether anything did.

        Raises:
            DatabaseUnreachable, psycopg.Error: the database is away.
        """
        loaded = self._loaded()
        with transaction() as conn:
            excluding = self._cooling.spaces()
            found = query_requests.claim(conn, self._queues, loaded=loaded, excluding=excluding)
            for space_id in {each.space_id for each in found} - self._spaces.keys():
                self._spaces[space_id] = query_requests.space_of(conn, space_id)
        # Who waits for a model that is here does not wait for one that is to be loaded.
        for group in sorted(_by_space(found), key=lambda g: self._space(g) not in loaded):
            self._answer(transaction, group)
        return bool(found)

    def _space(self, group: Sequence[QueryRequest]) -> Space:
        return self._spaces[group[0].space_id]

    def _answer(self, transaction: Transaction, group: Sequence[QueryRequest]) -> None:
        """Embed texts of one space and kind. BaseException: as in a batch's way through."""
        space, texts = self._space(group), [each.text for each in group]
        bills: list[Spent] = []
        try:
            with self._kept(group):
                embedder = self._embedder_for(space, group[0].queue)
                _check_read(embedder, texts)
                vectors = _embedded(embedder, texts, group[0].kind, bills)
                tokens = embedder.count_tokens(texts)
        except (psycopg.Error, PoolTimeout, DatabaseUnreachable):
            raise  # a model is compared with its record in the database
        except BaseException as error:  # noqa: BLE001 - see above
            self._settle(transaction, group, error, bills)
            return
        with transaction() as conn:
            query_requests.give(conn, group, vectors, tokens)
            self._enter(conn, space, group, bills)

    @contextmanager
    def _kept(self, group: Sequence[QueryRequest]) -> Iterator[None]:
        """Keep them from other workers inside the block, which may load a model."""
        over = threading.Event()

        def extend() -> None:
            while not over.wait(EXTEND_S):
                try:
                    with self._db.transaction() as conn:
                        query_requests.extend(conn, group)
                except (psycopg.Error, PoolTimeout, EmbedfleetError) as error:
                    log.warning("claimed queries are not kept: %s", describe(error))

        thread = threading.Thread(target=extend, name="embedfleet-query-lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _settle(
        self,
        transaction: Transaction,
        group: Sequence[QueryRequest],
        error: BaseException,
        bills: Sequence[Spent],
    ) -> None:
        space, reason = self._space(group), describe(error, [each.text for each in group])
        log.warning("%d queries for %s: %s", len(group), space.name, reason)
        elsewhere_s = 0.0 if isinstance(error, EmbedderBusy) else cooling_s(error)
        singly = len(group) > 1 and isinstance(error, InputAtFault | BadAnswer)
        with transaction() as conn:
            if elsewhere_s > 0:
                self._cooling.cool(group[0].space_id, group[0].queue, elsewhere_s)
                query_requests.give_back(conn, group, reason)
            elif not singly:
                for request in group:
                    query_requests.refuse(conn, request, reason)
            self._enter(conn, space, group, bills)
        for request in group if singly else ():
            self._answer(transaction, [request])

    def _enter(
        self,
        conn: Connection[Any],
        space: Space,
        group: Sequence[QueryRequest],
        bills: Sequence[Spent],
    ) -> None:
        """What a provider was paid goes into the ledger, last in its transaction."""
        if bills:
            spent = self._spending(space, len(group), bills)
            space_id = group[0].space_id
            usage.add(conn, space_id, spent, job_id=None, worker_id=self._worker_id)

    def _spending(self, space: Space, texts: int, bills: Sequence[Spent]) -> Spending:
        return usage.spending(
            requests=sum(each.requests for each in bills),
            texts=texts,
            tokens=sum(each.tokens for each in bills),
            price=self._price_of(space.name),
        )


def _by_space(found: Iterable[QueryRequest]) -> list[list[QueryRequest]]:
    def key(request: QueryRequest) -> tuple[int, Queue, Kind]:
        return request.space_id, request.queue, request.kind

    return [list(group) for _, group in groupby(sorted(found, key=key), key)]


def _check_read(embedder: Embedder, texts: Sequence[str]) -> None:
    """Raise InputAtFault where a text says nothing to the model: it would find anything."""
    name = embedder.space.name
    for text in texts:
        if not has_text(text):
            raise InputAtFault(reason=NOTHING_VISIBLE)
        if isinstance(embedder, KnowsItsWords) and embedder.unread_share(text) >= UNREADABLE_SHARE:
            raise InputAtFault(reason=unread_reason(name))


def _embedded(embedder: Embedder, texts: Sequence[str], kind: Kind, bills: list[Spent]) -> Vectors:
    """The vectors of texts; what each answer cost is added to `bills` as it comes."""
    if not isinstance(embedder, EmbedsInParts):
        return embedder.embed(texts, kind)
    rows: dict[int, np.ndarray] = {}
    for part in embedder.parts(texts, kind):
        bills.append(part.spent)
        rows.update(zip(part.rows, part.vectors, strict=True))
    if rows.keys() != set(range(len(texts))):
        raise BadAnswer(reason=f"{len(rows)} vectors for {len(texts)} texts")
    vectors = no_vectors(embedder.space) if not rows else np.stack([rows[n] for n in sorted(rows)])
    return Vectors(vectors)
