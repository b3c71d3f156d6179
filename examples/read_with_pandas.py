"""A collection as a frame of pandas, its vectors as one matrix of NumPy.

    EMBEDFLEET_DATABASE_URL=postgresql://... python examples/read_with_pandas.py handbook vpn.md

It prints what is nearest to a document. Larger collections: embedfleet export, then
`pandas.read_parquet`.
"""

from __future__ import annotations

import os
import sys

import numpy as np
import pandas as pd
import psycopg
from pgvector.psycopg import register_vector
from psycopg import sql


def main(collection: str, key: str) -> None:
    statement = sql.SQL("SELECT id, document, position, content, metadata, embedding FROM {}")
    view = sql.Identifier("embedfleet", collection)
    with psycopg.connect(os.environ["EMBEDFLEET_DATABASE_URL"]) as connection:
        register_vector(connection)
        cursor = connection.execute(statement.format(view))
        frame = pd.DataFrame(cursor.fetchall(), columns=[each.name for each in cursor.description])
    vectors = np.stack([vector.to_numpy() for vector in frame.pop("embedding")])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    (own,) = np.flatnonzero((frame.document == key) & (frame.position == 0))
    frame["score"] = vectors @ vectors[own]
    english = frame[frame.metadata.str.get("lang") == "en"]
    for chunk in english.nlargest(10, "score").itertuples():
        print(chunk.id, chunk.document, f"{chunk.score:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
