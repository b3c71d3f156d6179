"""Search with SQLAlchemy 2: the view of a collection is a table with pgvector's type.

python examples/search_with_sqlalchemy.py handbook "how do I reset my password?"
"""

from __future__ import annotations

import sys

from sqlalchemy import create_engine, select

import embedfleet as ef


def main(name: str, question: str) -> None:
    with ef.connect() as fleet:
        docs = fleet.collection(name)
        chunks, vector = docs.table(), docs.embed_query(question)
        url = fleet.settings.database.replace("postgresql://", "postgresql+psycopg://", 1)
    nearest = (
        select(chunks.c.id, chunks.c.document, chunks.c.content)
        .where(chunks.c.metadata_["lang"].as_string() == "en")
        .order_by(chunks.c.embedding.cosine_distance(vector))
        .limit(10)
    )
    with create_engine(url).connect() as connection:
        for chunk in connection.execute(nearest):
            print(chunk.id, chunk.document, chunk.content[:60])


if __name__ == "__main__":
    main(*sys.argv[1:])
