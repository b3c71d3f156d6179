"""LlamaIndex's `IngestionPipeline` into its `PGVectorStore`, with a model that costs nothing; run
by another interpreter, which has llama-index-vector-stores-postgres. Reads texts as JSON from
standard input, prints the seconds.
"""

import json
import sys
import time
from urllib.parse import urlsplit

from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.schema import TextNode
from llama_index.vector_stores.postgres import PGVectorStore

DIMENSIONS = 384
VECTOR = [0.05] * DIMENSIONS


class Nothing(BaseEmbedding):  # type: ignore[misc, unused-ignore]
    """The same vector for every text."""

    def _get_text_embedding(self, text: str) -> list[float]:  # noqa: ARG002 - LlamaIndex names it
        return VECTOR

    def _get_query_embedding(self, query: str) -> list[float]:  # noqa: ARG002 - the same
        return VECTOR

    async def _aget_query_embedding(self, query: str) -> list[float]:  # noqa: ARG002 - the same
        return VECTOR


def main() -> None:
    url, texts = urlsplit(sys.argv[1]), json.load(sys.stdin)
    store = PGVectorStore.from_params(
        connection_string=url._replace(scheme="postgresql+psycopg2").geturl(),
        async_connection_string=url._replace(scheme="postgresql+asyncpg").geturl(),
        table_name="rival",
        embed_dim=DIMENSIONS,
    )
    # Its largest batch; the usual one is ten texts.
    pipeline = IngestionPipeline(
        transformations=[Nothing(embed_batch_size=2_048)], vector_store=store, disable_cache=True
    )
    nodes = [TextNode(text=text) for text in texts]
    started = time.monotonic()
    pipeline.run(nodes=nodes)
    print("IngestionPipeline", time.monotonic() - started)
    store.clear()


if __name__ == "__main__":
    main()
