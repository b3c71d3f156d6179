"""Whether anybody is there to embed what waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedfleet.local_workers import running_workers
from embedfleet_schema.store import workers
from embedfleet_schema.types import Queue

if TYPE_CHECKING:
    from embedfleet.connections import Connections


def has_worker(connections: Connections, queue: Queue) -> bool:
    """Whether anyone is there to embed what waits in `queue`."""
    with connections.db.transaction() as conn:
        return workers.count_alive(conn, queue) > 0


def will_have_worker(connections: Connections, queue: Queue) -> bool:
    """The same, or whether one of the embedded stack is just starting: that takes some seconds."""
    if has_worker(connections, queue):
        return True
    if not connections.settings.uses_embedded_stack:
        return False
    return bool(running_workers(connections.settings.data, queue=queue))
