"""Search with psycopg alone: your own SQL over a collection's view, filtered and grouped.

    python examples/search_with_sql.py handbook "how do I reset my password?" --where lang=en

embedfleet only turns the question into a vector; a service could keep the model elsewhere.
"""

from __future__ import annotations

import argparse

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

import embedfleet as ef

# The best chunk of each document, from the 100 nearest chunks.
BEST_OF_EACH = sql.SQL("""
WITH nearest AS MATERIALIZED (
    SELECT document, content, embedding <=> %(vector)s::{storage} AS distance
    FROM {view}
    WHERE metadata @> %(where)s
    ORDER BY embedding <=> %(vector)s::{storage}
    LIMIT 100
), best AS (
    SELECT DISTINCT ON (document) document, content, distance
    FROM nearest
    ORDER BY document, distance
)
SELECT document, content, 1 - distance AS score FROM best ORDER BY distance LIMIT %(k)s
""")


def question_vector(collection: str, question: str) -> tuple[str, str, str]:
    """The database's URL, the vector as PostgreSQL reads it, and the type of the column."""
    with ef.connect() as fleet:
        docs = fleet.collection(collection)
        vector = docs.embed_query(question)
        return fleet.settings.database, str(vector.tolist()), docs.info.space.storage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("collection")
    parser.add_argument("question")
    parser.add_argument("-k", type=int, default=5)
    parser.add_argument("--where", metavar="KEY=VALUE", action="append", default=[])
    options = parser.parse_args()
    url, vector, storage = question_vector(options.collection, options.question)
    statement = BEST_OF_EACH.format(
        view=sql.Identifier("embedfleet", options.collection), storage=sql.Identifier(storage)
    )
    where = dict(condition.split("=", 1) for condition in options.where)
    with psycopg.connect(url) as connection:
        # Without it, an HNSW index gives 40 rows at the most, and fewer with a filter.
        connection.execute("SET LOCAL hnsw.iterative_scan = relaxed_order")
        values = {"vector": vector, "where": Jsonb(where), "k": options.k}
        for document, content, score in connection.execute(statement, values):
            print(f"{score:.3f} {document}: {' '.join(content.split())[:80]}")


if __name__ == "__main__":
    main()
