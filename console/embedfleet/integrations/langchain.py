"""A collection as a retriever of LangChain: `pip install "embedfleet[langchain]"`.

It needs langchain-core alone. langchain-postgres is not among the requirements: it asks for
pgvector < 0.4, embedfleet for 0.4 or newer.
"""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import ConfigDict

from embedfleet.collection import Collection
from embedfleet.integrations.retrieval import hits
from embedfleet_schema.errors import ExtraMissing
from embedfleet_schema.types import Hit

try:
    from langchain_core.callbacks import (
        AsyncCallbackManagerForRetrieverRun,
        CallbackManagerForRetrieverRun,
    )
    from langchain_core.documents import Document
    from langchain_core.retrievers import BaseRetriever
except ImportError as error:
    raise ExtraMissing(feature="The retriever for LangChain", extra="langchain") from error


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
