"""What the model of a space is, as its first worker found it, and what is stored to try it on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg.types.json import Jsonb

from embedfleet_schema.database import Database
from embedfleet_schema.embedded_text import embedded_text
from embedfleet_schema.errors import ModelRefused, UnknownCollection
from embedfleet_schema.statements import composed, load
from embedfleet_schema.store import collections
from embedfleet_schema.types import Space

_SQL = load("space_checks")


@dataclass(frozen=True, slots=True)
class SpaceRecord:
    """`files` by path, as `file_digests` gives them; `vectors` of shape (len(texts) + 1,
    dimensions): each text as a document, then the first one as a query.
    """

    files: Mapping[str, str]
    texts: Sequence[str]
    vectors: NDArray[np.float32]


def find(db: Database, space: Space) -> SpaceRecord | None:
    """What was recorded of a space; None before its first worker.

    Raises:
        ModelRefused: what is recorded cannot be such vectors.
    """
    with db.transaction() as conn:
        row = conn.execute(_SQL["find"], {"fingerprint": space.fingerprint}).fetchone()
    if row is None:
        return None
    files, texts, vectors = row
    shape = (len(texts) + 1, space.dimensions)
    matrix = np.frombuffer(vectors[: len(vectors) // 4 * 4], dtype="<f4").astype(np.float32)
    if not texts or len(vectors) != shape[0] * shape[1] * 4 or not np.isfinite(matrix).all():
        reason = (
            "its row in embedfleet.space_check is damaged; the owner of the "
            "tables can delete that row"
        )
        raise ModelRefused(model=space.name, reason=reason)
    return SpaceRecord(files, texts, matrix.reshape(shape))


def record(db: Database, space: Space, found: SpaceRecord) -> None:
    """Write what a worker found, unless another one did: `find` tells whose it is."""
    values = {
        "fingerprint": space.fingerprint,
        "files": Jsonb(dict(found.files)),
        "texts": list(found.texts),
        "vectors": np.asarray(found.vectors, dtype="<f4").tobytes(),
    }
    with db.transaction() as conn:
        conn.execute(_SQL["record"], values)


def stored(db: Database, space: Space, count: int) -> tuple[list[str], NDArray[np.float32]]:
    """Up to `count` texts of the space and their vectors, float32 of shape (n, dimensions)."""
    texts: list[str] = []
    rows: list[Sequence[float]] = []
    with db.transaction() as conn:
        found = conn.execute(_SQL["collections"], {"fingerprint": space.fingerprint}).fetchall()
        for (collection_id,) in found:
            try:
                statement = composed(_SQL["stored"], collections.by_id(conn, collection_id))
                with conn.transaction():
                    wanted = {"count": count - len(texts)}
                    samples = conn.execute(statement, wanted).fetchall()
            except (UnknownCollection, psycopg.errors.UndefinedTable):
                continue  # it was dropped at this moment
            texts += [embedded_text(content, context) for content, context, _ in samples]
            rows += [row for *_, row in samples]
            if len(texts) >= count:
                break
    return texts, np.array(rows, dtype=np.float32).reshape(len(texts), space.dimensions)
