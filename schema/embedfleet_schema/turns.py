"""When the batches of a job are claimed: by its lane, and among tenants by their shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, get_args

Lane = Literal["interactive", "bulk"]
LANES: tuple[Lane, ...] = get_args(Lane)

# First in the order of the claim. What is written without a lane is bulk.
PRIORITIES: Mapping[Lane, int] = MappingProxyType({"interactive": -1, "bulk": 0})

# Whose jobs name no tenant.
DEFAULT_TENANT: Final = "default"
LONGEST_TENANT: Final = 200
# Weights within this range keep start tags, which are float8, exact to less than a token.
LEAST_WEIGHT: Final = 0.001
MOST_WEIGHT: Final = 1_000.0


@dataclass(frozen=True, slots=True)
class Turn:
    """What decides when a job has its turn. Without a lane its size does."""

    lane: Lane | None = None
    tenant: str = DEFAULT_TENANT


ANY_TURN: Final = Turn()


def lane_of(priority: int) -> Lane:
    """The lane of a batch."""
    return "interactive" if priority < PRIORITIES["bulk"] else "bulk"


def lane_by_size(tokens: int, most: int) -> Lane:
    """The lane of a job that wants so many tokens embedded, if its size decides."""
    return "interactive" if tokens <= most else "bulk"
