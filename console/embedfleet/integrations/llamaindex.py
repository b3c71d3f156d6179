"""A collection as a retriever of LlamaIndex: `pip install "embedfleet[llamaindex]"`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from embedfleet.collection import Collection
from embedfleet.integrations.retrieval import hits
from embedfleet_schema.errors import ExtraMissing
from embedfleet_schema.hits import Hit

try:
    from llama_index.core.retrievers import BaseRetriever
    from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
except ImportError as error:
    raise ExtraMissing(feature="The retriever for LlamaIndex", extra="llamaindex") from error


class EmbedfleetRetriever(BaseRetriever):  # type: ignore[misc]  # without llama-index-core it is Any
    """The chunks nearest to a question, in the order of `Collection.search`, as nodes.

    Args:
        collection: from `Fleet.collection`.
        k: how many chunks.
        where: a filter, as in `Collection.search`.
        min_score: leave out what scores less; not with `hybrid`.
        hybrid: find by words too, as `Collection.hybrid_search` does.
    """

    def __init__(
        self,
        collection: Collection,
        *,
        k: int = 10,
        where: Mapping[str, Any] | None = None,
        min_score: float | None = None,
        hybrid: bool = False,
        **options: Any,  # noqa: ANN401 - of LlamaIndex's own class
    ) -> None:
        self._collection = collection
        self._search: dict[str, Any] = {
            "k": k,
            "where": where,
            "min_score": min_score,
            "hybrid": hybrid,
        }
        super().__init__(**options)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [_node(hit) for hit in self._hits(query_bundle)]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [_node(hit) for hit in await asyncio.to_thread(self._hits, query_bundle)]

    def _hits(self, query: QueryBundle) -> list[Hit]:
        return hits(self._collection, query.query_str, **self._search)


def _node(hit: Hit) -> NodeWithScore:
    """A hit; its metadata get what `embedfleet collection expose` puts over them, too."""
    metadata = {**hit.metadata, "document": hit.document, "position": hit.position}
    node = TextNode(id_=str(hit.id), text=hit.content, metadata=metadata)
    return NodeWithScore(node=node, score=hit.score)
