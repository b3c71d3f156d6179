"""LlamaIndex's own PGVectorStore over a collection: pip install llama-index-vector-stores-postgres.

    embedfleet collection expose handbook --as llamaindex
    python examples/llamaindex_pgvectorstore.py handbook "how do I reset my password?"

It writes the values of filters into its SQL as they are: give it none that a user typed.
"""

from __future__ import annotations

import sys

from llama_index.core.vector_stores import MetadataFilters, VectorStoreQuery
from llama_index.vector_stores.postgres import PGVectorStore

import embedfleet as ef


def main(name: str, question: str) -> None:
    with ef.connect() as fleet:
        docs = fleet.collection(name)
        vector, url = docs.embed_query(question).tolist(), fleet.settings.database
        dimensions = docs.info.space.dimensions
    store = PGVectorStore.from_params(
        connection_string=url.replace("postgresql://", "postgresql+psycopg2://", 1),
        async_connection_string=url.replace("postgresql://", "postgresql+asyncpg://", 1),
        schema_name="embedfleet",
        table_name=name,  # LlamaIndex puts data_ before it
        embed_dim=dimensions,
        use_jsonb=True,
        perform_setup=False,  # there is nothing to create
    )
    english = MetadataFilters.from_dict({"lang": "en"})
    query = VectorStoreQuery(query_embedding=vector, similarity_top_k=10, filters=english)
    for node in store.query(query).nodes:
        print(node.node_id, node.metadata["document"], node.text[:60])


if __name__ == "__main__":
    main(*sys.argv[1:])
