"""Collections that are filled without a model: given vectors, live, one chunk to a document."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import sql
from psycopg.types.json import Jsonb

from embedfleet.collection import Collection
from embedfleet.fleet import Fleet
from embedfleet_schema.statements import composed
from embedfleet_schema.store import counters
from embedfleet_schema.vectors import vector_array

# One text to a row, so that each has a vector of its own.
INSERT = """
WITH given AS (
    SELECT row_number() OVER () AS number, sha256(convert_to(u.text, 'UTF8')) AS sha256, u.*
    FROM unnest(%(texts)s::text[], %(metadata)s::jsonb[], %(vectors)s)
        AS u (text, metadata, embedding)
), documents AS (
    INSERT INTO embedfleet.{documents} (key, digest, version, live_version)
    SELECT text, sha256, 1, 1 FROM given
    RETURNING id, digest
), texts AS (
    INSERT INTO embedfleet.{texts} (hash, tokens, content)
    SELECT encode(substr(sha256, 1, 16), 'hex')::uuid, 1, text FROM given ORDER BY number
    RETURNING id, content
), chunks AS (
    INSERT INTO embedfleet.{chunks}
        (document_id, version, position, text_id, metadata)
    SELECT d.id, 1, 0, t.id, g.metadata
    FROM given AS g
    JOIN documents AS d ON d.digest = g.sha256
    JOIN texts AS t ON t.content = g.text
)
INSERT INTO embedfleet.{vectors} (text_id, embedding)
SELECT t.id, g.embedding FROM given AS g JOIN texts AS t ON t.content = g.text ORDER BY number
"""


def fill(
    fleet: Fleet,
    docs: Collection,
    vectors: NDArray[np.float32],
    metadata: Sequence[dict[str, Any]],
) -> None:
    """Store document `d<n>` with vector and metadata n, for all of them."""
    info = docs.info
    statement = composed(sql.SQL(INSERT), info)
    with fleet.db.transaction() as conn:
        conn.execute(
            statement,
            {
                "texts": [f"d{number}" for number in range(len(vectors))],
                "metadata": [Jsonb(each) for each in metadata],
                "vectors": vector_array(vectors, info.space.storage, fleet.db.oids),
            },
        )
    counters.repair(fleet.db, info)
