"""LangChain's own PGVectorStore over the view of a collection: pip install langchain-postgres.

    export EMBEDFLEET_DATABASE_URL=postgresql://...
    python examples/langchain_pgvectorstore.py handbook < vector.json

The vector is that of a question, from `Collection.embed_query` in another environment: embedfleet
and langchain-postgres want different versions of pgvector. With an `Embeddings` class of the
collection's model in place of `Elsewhere`, use `similarity_search`. It filters by the columns of
the view, not by what is in `metadata`: for that, see langchain_retriever.py.
"""

from __future__ import annotations

import json
import os
import sys

from langchain_core.embeddings import Embeddings
from langchain_postgres import PGEngine, PGVectorStore


class Elsewhere(Embeddings):
    """Vectors are made where the model is."""

    def embed_documents(self, _texts: list[str]) -> list[list[float]]:
        raise TypeError("embedfleet embeds documents")

    def embed_query(self, _text: str) -> list[float]:
        raise TypeError("give the vector: similarity_search_by_vector")


def main(collection: str, *documents: str) -> None:
    url = os.environ["EMBEDFLEET_DATABASE_URL"]
    store = PGVectorStore.create_sync(
        PGEngine.from_connection_string(url.replace("postgresql://", "postgresql+psycopg://", 1)),
        Elsewhere(),
        table_name=collection,
        schema_name="embedfleet",
        id_column="id",
        content_column="content",
        embedding_column="embedding",
        metadata_columns=["document", "position"],
        metadata_json_column="metadata",
    )
    chosen = {"document": {"$in": list(documents)}} if documents else None
    vector = json.load(sys.stdin)
    for document in store.similarity_search_by_vector(vector, k=10, filter=chosen):
        print(document.id, document.metadata["document"], document.page_content[:60])


if __name__ == "__main__":
    main(*sys.argv[1:])
