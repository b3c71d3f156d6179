"""Collections that a comparison makes for itself, and leaves none of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from embedfleet.connections import Connections
from embedfleet.local_processes import uninterrupted
from embedfleet_schema.database_errors import NotPermitted
from embedfleet_schema.errors import CollectionGone, UnknownCollection, UsageError
from embedfleet_schema.leadership import COMPARISON, Leadership
from embedfleet_schema.store import collections, samples
from embedfleet_schema.types import Chunking, Space, VectorOptions

if TYPE_CHECKING:
    from embedfleet.collection import Collection

PREFIX = "embedfleet_scratch_"
_OURS = f"^{PREFIX}[0-9]+$"


@contextmanager
def comparing(connections: Connections) -> Iterator[None]:
    """Compare alone in this database: then what has a name of ours was left by one that died.

    What was left is dropped first, and what was made meanwhile at the end, whatever ends it.

    Raises:
        NotPermitted: this user may not drop a collection; none was made.
        UsageError: another comparison runs.
    """
    if not samples.may_drop(connections.db):
        reason = "a comparison drops its collections, which only the owner of the schema may"
        raise NotPermitted(url=connections.db.name, reason=reason)
    leadership = Leadership(connections.db, COMPARISON)
    if not leadership.take():
        raise UsageError(
            reason="another comparison runs in this database. Wait for its end, then try again"
        )
    try:
        _drop_all(connections)
        yield
    finally:
        with uninterrupted():
            try:
                _drop_all(connections)
            finally:
                leadership.give_back()


def made(connections: Connections, number: int, space: Space, chunking: Chunking) -> Collection:
    """An empty collection that takes no vectors from others: what is measured is embedded here."""
    from embedfleet.collection import Collection

    queue = connections.queue_for(space)
    name = f"{PREFIX}{number}"
    info = collections.create_or_open(
        connections.db, name, space, chunking, queue, VectorOptions("none"), filter_index=False
    )
    return Collection(connections, info)


def _drop_all(connections: Connections) -> None:
    from embedfleet.collection import Collection

    for name in samples.scratch(connections.db, _OURS):
        # A person may have dropped it by hand.
        with suppress(UnknownCollection, CollectionGone):
            Collection(connections, collections.find(connections.db, name)).drop()
