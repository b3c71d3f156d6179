"""Many texts at once whose vectors the HTTP API asks workers for: the side of who asks.

The requests are those of `query_requests`. Each call is one short transaction of a connection that
its thread keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg.rows import class_row

from embedfleet_schema.database import OwnConnection
from embedfleet_schema.errors import NotAnswered
from embedfleet_schema.session import brief
from embedfleet_schema.statements import load
from embedfleet_schema.types import Kind, Queue

_SQL = load("query_requests")


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a text: its vector, as floats, with its tokens; or the reason why there is
    none, and whether that is the text's fault (`refused`).
    """

    id: UUID
    vector: Sequence[float] | None
    tokens: int | None
    reason: str | None
    refused: bool

    @property
    def array(self) -> NDArray[np.float32]:
        """The vector, of shape (dimensions,)."""
        return np.asarray(self.vector, dtype=np.float32)


def ask(
    own: OwnConnection, space_id: int, queue: Queue, texts: Sequence[str], kind: Kind
) -> list[UUID]:
    """Request the vectors of texts; the ids of the requests, in the order of the texts.

    Raises:
        NotAnswered: no worker serves the queue, or the model is paused; nothing is requested.
    """
    values = {"space_id": space_id, "queue": queue, "texts": list(texts), "kind": kind}
    try:
        with own.transaction() as conn:
            row = conn.execute(_SQL["ask_many"], values).fetchone()
    except psycopg.errors.ObjectNotInPrerequisiteState as error:
        raise NotAnswered(reason=brief(error)) from error
    assert row is not None  # noqa: S101 - a function gives a row or raises
    ids: list[UUID] = row[0]
    return ids


def answers(own: OwnConnection, ids: Sequence[UUID]) -> list[Answer]:
    """The answers that are there, each once; who asks keeps the workers awake."""
    with own.transaction() as conn, conn.cursor(row_factory=class_row(Answer)) as cursor:
        return cursor.execute(_SQL["answers"], {"ids": list(ids)}).fetchall()


def withdraw(own: OwnConnection, ids: Sequence[UUID]) -> int:
    """Take requests back that no worker has begun; returns how many."""
    with own.transaction() as conn:
        row: tuple[Any, ...] | None = conn.execute(_SQL["withdraw"], {"ids": list(ids)}).fetchone()
    return int(row[0]) if row is not None else 0
