"""Version floors: what a worker refuses to start below, and what `doctor` warns of.

Refused is what lets a model run code of its own, or makes searches silently incomplete. Brokers
are only warned of: a doorbell carries neither text nor key, and whoever may write to it can ring.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from psycopg import Connection

from embedfleet_schema.errors import WorkerStartFailed
from embedfleet_schema.requirements import pgvector

Release = tuple[int, ...]

_RELEASE = re.compile(r"\s*[vV]?(\d+(?:\.\d+)*)")


@dataclass(frozen=True, slots=True)
class Floor:
    """The least version of something that a worker may use, and what older ones do."""

    name: str
    least: Release
    why: str

    def refuse(self, found: str) -> None:
        """Raise WorkerStartFailed where `found` is older."""
        if release(found) < self.least:
            raise WorkerStartFailed(
                reason=f"{self.name} {found} is older than {_written(self.least)}, and {self.why}"
            )


PACKAGES = (
    Floor(
        "sentence-transformers",
        (6,),
        "lets a model directory run its own code although trust_remote_code is off. "
        "Upgrade: pip install 'embedfleet[local]'",
    ),
    Floor(
        "transformers",
        (5, 3),
        "lets a model's config.json run code from the hub (CVE-2026-4372). "
        "Upgrade: pip install 'embedfleet[local]'",
    ),
    # A loader is shown no checkpoint to read; this is the second wall.
    Floor(
        "torch",
        (2, 10),
        "corrupts memory on a crafted checkpoint (CVE-2026-24747). "
        "Upgrade: pip install 'embedfleet[local]'",
    ),
)
POSTGRES = Floor("PostgreSQL", (15,), "gets no security fixes any more. Upgrade the server")
PGVECTOR = Floor(
    "pgvector",
    (0, 8),
    "has no iterative scan: a search with a filter silently returns too few rows. Upgrade the "
    "extension on the server, then: ALTER EXTENSION vector UPDATE",
)
# 0.8.2 fixes CVE-2026-3172 (a parallel HNSW build reads and writes out of bounds), 0.8.3 indexes
# that VACUUM damages, 0.8.4 inserts that fail beside a VACUUM.
PGVECTOR_ADVISED: Release = (0, 8, 4)
# The patch release of each branch that holds the fixes of 2026; older branches get none.
REDIS_FIXED: dict[Release, int] = {(8, 2): 9, (8, 4): 6, (8, 6): 6, (8, 8): 2}
VALKEY_FIXED: Release = (9, 1, 2)


def release(text: str) -> Release:
    """The numbers that a version starts with, without zeros at the end: "6.0.0rc1" is (6,).

    A pre-release counts as its release. Raises ValueError where there is no number.
    """
    found = _RELEASE.match(text)
    if found is None:
        message = f"{text!r} is not a version"
        raise ValueError(message)
    numbers = [int(part) for part in found[1].split(".")]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def check_packages(installed: Callable[[str], str] = version) -> None:
    """Refuse what is installed and too old, without importing it.

    A worker without the extra `local` has none of it, and serves other providers.

    Raises:
        WorkerStartFailed: with the package, its version and the reason.
    """
    for floor in PACKAGES:
        try:
            found = installed(floor.name)
        except PackageNotFoundError:
            continue
        floor.refuse(found)


def check_server(conn: Connection[Any]) -> None:
    """Refuse a PostgreSQL or pgvector that is too old.

    Raises:
        WorkerStartFailed: with the version and the reason.
    """
    POSTGRES.refuse(conn.info.parameter_status("server_version") or "0")
    if (found := pgvector(conn)) is not None:
        PGVECTOR.refuse(found)


def pgvector_advice(found: str) -> str:
    """What to do about a pgvector that works and has known faults; empty where it has none."""
    if release(found) >= PGVECTOR_ADVISED:
        return ""
    return (
        f"upgrade to {_written(PGVECTOR_ADVISED)} or newer: older ones overflow a buffer in "
        "parallel index builds (CVE-2026-3172, below 0.8.2) and damage indexes in VACUUM"
    )


def broker_advice(name: str, found: str) -> str:
    """The same for the broker; `name` is "redis" or "valkey"."""
    number = release(found)
    if name == "valkey":
        fixed = number >= VALKEY_FIXED
        wanted = f"Valkey {_written(VALKEY_FIXED)}"
    else:
        # A branch that came later holds the fixes from its start.
        least = REDIS_FIXED.get(number[:2], 0 if number[:2] > max(REDIS_FIXED) else None)
        fixed = least is not None and (*number, 0, 0)[2] >= least
        wanted = "Redis " + ", ".join(_written((*b, patch)) for b, patch in REDIS_FIXED.items())
    return "" if fixed else f"it lacks security fixes of 2026; upgrade to {wanted} or newer"


def _written(number: Release) -> str:
    return ".".join(map(str, number))
