"""A collection as a retriever and as a vector store of LangChain:
`pip install "embedfleet[langchain]"`.

It needs langchain-core alone. langchain-postgres is not among the requirements: it asks for
pgvector < 0.4, embedfleet for 0.4 or newer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

from pydantic import ConfigDict

from embedfleet import arguments
from embedfleet.collection import Collection
from embedfleet.integrations.langchain_filters import in_our_language
from embedfleet.integrations.retrieval import hits
from embedfleet_schema.errors import BadArgument, ExtraMissing, UsageError
from embedfleet_schema.exchange_errors import NotAdded
from embedfleet_schema.hits import Hit
from embedfleet_schema.store.search import StoredChunk
from embedfleet_schema.types import Document as OurDocument

try:
    from langchain_core.callbacks import (
        AsyncCallbackManagerForRetrieverRun,
        CallbackManagerForRetrieverRun,
    )
    from langchain_core.documents import Document
    from langchain_core.retrievers import BaseRetriever
    from langchain_core.vectorstores import VectorStore
except ImportError as error:
    raise ExtraMissing(feature="The part for LangChain", extra="langchain") from error

if TYPE_CHECKING:
    from embedfleet.job import Job

Filter = Mapping[str, Any]


class EmbedfleetRetriever(BaseRetriever):  # type: ignore[misc]  # without langchain-core it is Any
    """The chunks nearest to a question, in the order of `Collection.search`, as documents.

    Args:
        collection: from `Fleet.collection`.
        k: how many chunks.
        where: a filter, as in `Collection.search`.
        min_score: leave out what scores less; not with `hybrid`.
        hybrid: find by words too, as `Collection.hybrid_search` does.
    """

    collection: Collection
    k: int = 10
    where: dict[str, Any] | None = None
    min_score: float | None = None
    hybrid: bool = False

    model_config = ConfigDict(arbitrary_types_allowed=True)

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002
    ) -> list[Document]:
        return [_document(hit) for hit in self._hits(query)]

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,  # noqa: ARG002
    ) -> list[Document]:
        return [_document(hit) for hit in await asyncio.to_thread(self._hits, query)]

    def _hits(self, query: str) -> list[Hit]:
        return hits(
            self.collection,
            query,
            k=self.k,
            where=self.where,
            min_score=self.min_score,
            hybrid=self.hybrid,
        )


def _document(hit: Hit) -> Document:
    """A hit; what is no metadata of its own goes over them: its document, position and score."""
    own = {"document": hit.document, "position": hit.position, "score": hit.score}
    return Document(id=str(hit.id), page_content=hit.content, metadata={**hit.metadata, **own})


class EmbedfleetVectorStore(VectorStore):  # type: ignore[misc]  # without langchain-core it is Any
    """A collection as a store: documents go in through the fleet, whose workers embed them.

    A document of LangChain becomes a document of one chunk, as long as the model takes it, under
    its id. So split long texts before. What was enqueued in another way is found, too: each chunk
    is a document of LangChain, with the key as its id.

    Args:
        collection: from `Fleet.collection`. Its own model embeds documents and questions.
        wait: return from adding when the documents can be found. Otherwise it returns when they
            are stored, and workers embed them later.
        timeout_s: how long to wait at the most; by default until the end.
    """

    def __init__(
        self, collection: Collection, *, wait: bool = True, timeout_s: float | None = None
    ) -> None:
        arguments.flag("EmbedfleetVectorStore", "wait", wait)
        self.collection = collection
        self._wait = wait
        self._timeout_s = timeout_s

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        embedding: object = None,
        metadatas: Sequence[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        collection: Collection,
        **options: Any,  # noqa: ANN401 - of the constructor
    ) -> Self:
        """A store to which the texts were added; `embedding` is None: the collection has its model.

        Raises:
            BadArgument: there is an `embedding`, which would not be used.
            NotAdded: some of the texts cannot be found.
        """
        if embedding is not None:
            wanted = "None: the model of the collection embeds"
            shown = type(embedding).__name__
            raise BadArgument(call="from_texts", name="embedding", wanted=wanted, given=shown)
        store = cls(collection, **options)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    def add_documents(
        self, documents: list[Document], *, ids: Sequence[str | None] | None = None
    ) -> list[str]:
        """Add documents, or replace those of the same id; returns the ids.

        Args:
            ids: instead of those of the documents. What has none gets a new one.

        Raises:
            NotAdded: some of them cannot be found; the others can.
            NoWorker, JobPaused, WaitTimeout: all are stored, and not embedded yet.
            UsageError: somebody cancelled the job.
        """
        given = _documents(documents, ids)
        job = self.collection.enqueue(given)
        if self._wait:
            job.wait(timeout_s=self._timeout_s)
        self._check(job, len(given))
        return [each.key for each in given]

    async def aadd_documents(
        self, documents: list[Document], *, ids: Sequence[str | None] | None = None
    ) -> list[str]:
        given = _documents(documents, ids)
        job = await self.collection.aenqueue(given)
        if self._wait:
            await job.wait_async(timeout_s=self._timeout_s)
        await asyncio.to_thread(self._check, job, len(given))
        return [each.key for each in given]

    def delete(
        self,
        ids: Sequence[str] | None = None,
        *,
        filter: Filter | None = None,  # noqa: A002
    ) -> bool:
        """Delete documents by their ids, or those with a chunk that a filter keeps. An id that is
        not there is no error.

        Raises:
            UsageError: neither is given. To delete all documents, drop the collection.
        """
        if ids is not None:
            self.collection.delete(ids)
        if ids is None or filter:
            self.collection.delete_matching(where=_where(filter))
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        return [_stored(chunk) for chunk in self.collection.chunks(ids)]

    def similarity_search(
        self,
        query: str,
        k: int = 4,
        *,
        filter: Filter | None = None,  # noqa: A002
    ) -> list[Document]:
        """The chunks nearest to a text; `filter` is one of LangChain's or one of ours."""
        return [_stored(hit) for hit in self._hits(query, k, filter)]

    def similarity_search_with_score(
        self,
        query: str,
        k: int = 4,
        *,
        filter: Filter | None = None,  # noqa: A002
    ) -> list[tuple[Document, float]]:
        """With the score of `Collection.search`: the larger, the nearer."""
        return [(_stored(hit), hit.score) for hit in self._hits(query, k, filter)]

    def similarity_search_by_vector(
        self,
        embedding: Sequence[float],
        k: int = 4,
        *,
        filter: Filter | None = None,  # noqa: A002
    ) -> list[Document]:
        return [_stored(hit) for hit in self._hits(embedding, k, filter)]

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: Filter | None = None,  # noqa: A002 - LangChain's name
    ) -> list[Document]:
        """Chunks near to a text and not near to each other: `Collection.diverse`."""
        return self._diverse(query, k, fetch_k, lambda_mult, filter)

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: Sequence[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: Filter | None = None,  # noqa: A002 - LangChain's name
    ) -> list[Document]:
        return self._diverse(embedding, k, fetch_k, lambda_mult, filter)

    def _diverse(
        self,
        query: str | Sequence[float],
        k: int,
        candidates: int,
        weight: float,
        given: Filter | None,
    ) -> list[Document]:
        where = _where(given)
        found = self.collection.diverse(
            query, k=k, where=where, weight=weight, candidates=candidates
        )
        return [_stored(hit) for hit in found]

    def _hits(self, query: str | Sequence[float], k: int, given: Filter | None) -> list[Hit]:
        return self.collection.search(query, k=k, where=_where(given))

    def _check(self, job: Job, documents: int) -> None:
        status = job.status
        if status.state == "cancelled":
            reason = f"job {job.id} was cancelled. Add the documents again"
            raise UsageError(reason=reason)
        if not status.rejected and not status.failed:
            return
        failed = status.rejected + status.failed
        # None where somebody deleted them meanwhile.
        reasons = (f"{each.document!r}: {each.code}, {each.reason}" for each in job.failures)
        first = next(reasons, "deleted")
        raise NotAdded(name=self.collection.name, failed=failed, documents=documents, first=first)

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        """From 0 to 1 for vectors of unit length, by LangChain's own measures."""
        if self.collection.info.space.metric == "l2":
            return lambda score: float(self._euclidean_relevance_score_fn(-score))
        return lambda score: max(0.0, score)


def _documents(
    documents: Sequence[Document], ids: Sequence[str | None] | None
) -> list[OurDocument]:
    if ids is not None and len(ids) != len(documents):
        wanted = f"as many as there are documents ({len(documents)})"
        raise BadArgument(call="add_documents", name="ids", wanted=wanted, given=len(ids))
    return [
        OurDocument(
            key or (each.id if ids is None else None) or str(uuid4()),
            chunks=[each.page_content],
            metadata=each.metadata,
        )
        for each, key in zip(documents, repeat(None) if ids is None else ids, strict=False)
    ]


def _stored(chunk: StoredChunk | Hit) -> Document:
    return Document(id=chunk.document, page_content=chunk.content, metadata=chunk.metadata)


def _where(given: Filter | None) -> dict[str, Any] | None:
    return None if given is None else in_our_language(given)
