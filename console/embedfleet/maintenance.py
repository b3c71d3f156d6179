"""What becomes of a collection once it is filled: look, mend, index, open to others, remove."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from psycopg.errors import UndefinedTable

from embedfleet import arguments
from embedfleet.error_translation import translate_errors
from embedfleet.indexing import Indexing
from embedfleet.job import Job
from embedfleet_producer.budget import check_budget
from embedfleet_schema.errors import CollectionGone, CollectionMoved, ModelChanged, UnknownJob
from embedfleet_schema.store import (
    audit,
    collection_counts,
    documents,
    failures,
    grants,
    jobs,
    model_changes,
    requeue,
)
from embedfleet_schema.store.audit import Audit
from embedfleet_schema.store.collection_counts import CollectionCounts
from embedfleet_schema.store.document_status import Explanation
from embedfleet_schema.store.documents import DocumentInfo, Selection
from embedfleet_schema.store.drop import drop
from embedfleet_schema.store.failures import FailureInfo
from embedfleet_schema.turns import Lane
from embedfleet_schema.types import LARGEST_ID

if TYPE_CHECKING:
    from embedfleet.erasing import Erased

Result = TypeVar("Result")

# A call that waits is overtaken by a change of names this often, before it gives up.
MOST_MOVES = 5


@translate_errors
class Maintenance(Indexing):
    """The part of `Collection` that needs no model and stores no text."""

    @property
    def name(self) -> str:
        """Also the name of the SQL view: `embedfleet.<name>`."""
        return self.info.name

    def __repr__(self) -> str:
        return f"<Collection {self.name!r} of {self.info.space.name}>"

    def documents(self, *, prefix: str = "") -> Iterator[DocumentInfo]:
        """What is stored, by key: source, chunks, whether it is live. Read a page at a time.

        Keys and prefixes find what is stored in either Unicode form (NFC, NFD), here and below.
        """
        self._check_there()
        return documents.listed(self._connections.db, self.info, prefix=prefix)

    def delete(self, keys: Sequence[str]) -> list[str]:
        """Remove documents, their chunks, and vectors that no other uses; returns their keys."""
        wanted = arguments.texts("delete", "keys", keys, '["vpn.md"]')
        self._check_written()
        return self._following(lambda: documents.delete(self._connections.db, self.info, wanted))

    def erase(self, keys: Sequence[str]) -> Erased:
        """Delete documents with every trace of their texts, and look whether any is left.

        Also drafts and former versions, failures, vectors of queries that were one of the texts,
        and unfinished files at a provider. Old rows are vacuumed. A text that other documents have
        stays. What this user may not do is noted, and the rest is done: erase as the owner of the
        tables.

        Returns what was found and what is left, place by place, and what nobody can look into.
        """
        from embedfleet.erasing import erase

        wanted = arguments.texts("erase", "keys", keys, '["vpn.md"]')
        self._check_written()
        return erase(self._connections, self.info, wanted)

    def delete_matching(
        self,
        *,
        job_id: int | None = None,
        prefix: str | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> int:
        """Remove documents: those that a job stored last, those whose keys begin with `prefix`, or
        those with a chunk that has the metadata `where`, as in `search`. All conditions must hold.

        Returns how many there were. If the job had replaced a document, the former one does not
        come back. This also works after the job itself was removed.

        Raises:
            UsageError: nothing is selected.
            UnknownJob: the collection has no such job.
        """
        _check_job("delete_matching", job_id)
        if prefix is not None:
            arguments.text("delete_matching", "prefix", prefix)
        arguments.where(where, "delete_matching")
        selection = Selection(job_id, prefix, where)
        self._check_written()
        owner = None if job_id is None else jobs.collection_of(self._connections.db, job_id)
        if owner not in (None, self.info.id):
            raise UnknownJob(job=job_id)
        gone = self._following(
            lambda: documents.delete_matching(self._connections.db, self.info, selection)
        )
        if job_id is not None and owner is None and not gone:
            raise UnknownJob(job=job_id)
        return gone

    def clear_failures(self) -> int:
        """Remove rejected documents from the list of failures; returns how many there were.

        Failed chunks stay in the list until a `retry` succeeds, or you `delete` their documents.
        """
        self._check_there()
        return documents.clear_rejections(self._connections.db, self.info)

    def audit(
        self,
        *,
        repair: bool = False,
        budget_usd: float | None = None,
        lane: Lane | None = None,
        tenant: str | None = None,
    ) -> Audit:
        """Compare what is stored with what should be; with `repair`, queue what is missing.

        The result says what was found. `job_id` is the job of the repair. It is paused before it
        costs more than `budget_usd`. It is bulk, unless you name another `lane`, and uses the
        share of `tenant`.

        Raises:
            BadBudget, PriceUnknown: the budget cannot be kept; nothing was queued.
        """
        self._check("audit", budget_usd)
        turn = arguments.turn("audit", lane, tenant)
        found = audit.audit(self._connections.db, self.info)
        if not repair:
            return found
        job_id = audit.repair(
            self._connections.db,
            self.info,
            batch_tokens=self._batch_tokens,
            budget_usd=budget_usd,
            turn=turn,
        )
        if job_id is not None:
            self._connections.doorbell.ring(self.info.queue)
        return found.repaired_by(job_id)

    def failures(self, *, job_id: int | None = None, limit: int = 1_000) -> list[FailureInfo]:
        """Failed chunks and rejected documents, newest first."""
        _check_job("failures", job_id)
        arguments.whole("failures", "limit", limit, most=LARGEST_ID)
        self._check_there()
        return failures.listed(self._connections.db, self.info, job_id=job_id, limit=limit)

    def explain(self, key: str) -> Explanation:
        """Why a document is not searchable yet, or that it is; `str()` of it is a paragraph."""
        from embedfleet.limits import learnt
        from embedfleet_schema.store.explain import explain

        arguments.text("explain", "key", key)
        self._check_there()
        found = explain(self._connections.db, self.info, key)
        if found.state not in ("waiting", "incomplete"):
            return found
        space = self.info.space
        redis = self._connections.settings.redis
        said = learnt(self._connections.db, redis, space.provider, space.model)
        return replace(found, limit=" ".join(said) or None)

    def retry(
        self,
        *,
        job_id: int | None = None,
        budget_usd: float | None = None,
        lane: Lane | None = None,
        tenant: str | None = None,
    ) -> Job | None:
        """Retry failed chunks, of one job or all; None if there is none, or all are queued.

        A failure stays in the list until its chunk has a vector or fails again. The new job is
        paused before it costs more than `budget_usd`. It is bulk, unless you name another `lane`,
        and uses the share of `tenant`.

        Raises:
            BadBudget, PriceUnknown: the budget cannot be kept; nothing was queued.
        """
        self._check("retry", budget_usd)
        turn = arguments.turn("retry", lane, tenant)
        _check_job("retry", job_id)
        new = requeue.retry_failures(
            self._connections.db,
            self.info,
            batch_tokens=self._batch_tokens,
            job_id=job_id,
            budget_usd=budget_usd,
            turn=turn,
        )
        if new is None:
            return None
        self._connections.doorbell.ring(self.info.queue)
        return Job(self._connections, new)

    def counts(self) -> CollectionCounts:
        """How many documents, vectors and failures there are, and whether there is an index."""
        self._check_there()
        return collection_counts.counts(self._connections.db, self.info)

    def drop(self, *, cascade: bool = False) -> list[str]:
        """Drop the collection with all its rows. This cannot be undone.

        Args:
            cascade: also drop your own views that read it; returns what was dropped with it.

        Raises:
            ViewsInTheWay: there are such views, and no `cascade`.
            InModelChange: it is one of the two of a model change.
        """
        reason = "it can be dropped when that has ended"
        model_changes.check_outside(self._connections.db, self.info, reason)
        return drop(self._connections.db, self.info, cascade=cascade)

    def grant(self, role: str, *, view: bool = False) -> str:
        """Let a role of PostgreSQL search this collection and see no other text.

        Creates the function `embedfleet.search_<name>(query, k, filter)`, which runs with the
        rights of its owner, and returns its name. With `view`, the role may read the view `<name>`
        instead, with any SQL, and sees only live rows. Only the owner of the schema can do this.

        Raises:
            UnknownRole: the server has no such role.
            GrantUseless: it can read the fleet's tables or views already.
            LongName: the collection's name leaves no room for the function's.
        """
        arguments.text("grant", "role", role)
        if view:
            grants.grant_view(self._connections.db, self.info, role)
            return self.name
        return grants.grant(self._connections.db, self.info, role)

    def revoke(self, role: str, *, view: bool = False) -> None:
        """Revoke what `grant` gave to a role: the search, or with `view` the view.

        Raises:
            UnknownRole: the server has no such role.
        """
        arguments.text("revoke", "role", role)
        if view:
            grants.revoke_view(self._connections.db, self.info, role)
            return
        grants.revoke(self._connections.db, self.info, role)

    def _check_written(self) -> None:
        """Go on with what has the name now, if it takes documents.

        Raises:
            CollectionGone: it was dropped.
            InModelChange: it follows another collection.
        """
        self._check_there()
        model_changes.check_written(self._connections.db, self.info)

    def _following(self, call: Callable[[], Result], query: object = "") -> Result:
        """The result of what may be done again; done again where another collection has the name
        now. A vector of a former model cannot be used for that.

        Raises:
            CollectionGone: it was dropped.
            ModelChanged: a vector was given, and the collection has another model now.
        """
        for _ in range(MOST_MOVES):
            try:
                return call()
            except (UndefinedTable, CollectionGone, CollectionMoved, ModelChanged):
                former = self.info
                # It may have its former name again by now.
                self._check_there()
                if former.space != self.info.space and not isinstance(query, str):
                    raise ModelChanged(name=self.name) from None
        return call()

    def _check(self, call: str, budget_usd: float | None) -> None:
        arguments.budget(call, budget_usd)
        self._check_there()
        check_budget(budget_usd, self.info.space, self._connections.settings.prices)

    @property
    def _batch_tokens(self) -> int:
        return self._connections.settings.batch_tokens(self.info.queue)


def _check_job(call: str, job_id: int | None) -> None:
    if job_id is not None:
        arguments.whole(call, "job_id", job_id, most=LARGEST_ID)
