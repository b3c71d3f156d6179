"""What the script says of a limit, put into words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from embedfleet_workers.rate_limits.stores.gcra import SECOND
from embedfleet_workers.rate_limits.stores.limit_store import DimensionState, Snapshot
from embedfleet_workers.stop import Stop

MOST_BYTES = 500
_WORDS_OF_A_DIMENSION = 6


def snapshot_of(answer: Sequence[Any]) -> Snapshot:
    """A snapshot from the script's `snapshot`."""
    (paused, why, by, slowed_to, in_flight, waiting), stop, dimensions = (
        answer[:6],
        answer[6:10],
        answer[10:],
    )
    stopped, code, reason, stopped_by = map(word, stop)
    return Snapshot(
        dict(
            _dimension(*dimensions[at : at + _WORDS_OF_A_DIMENSION])
            for at in range(0, len(dimensions), _WORDS_OF_A_DIMENSION)
        ),
        paused_s=float(paused) / SECOND,
        paused_why=word(why),
        paused_by=word(by),
        slowed_to=float(slowed_to),
        in_flight=int(in_flight),
        waiting=int(waiting),
        stopped=Stop(code, reason) if stopped else None,
        stopped_by=stopped_by,
    )


def _dimension(
    name: bytes, seen: bytes, rate: bytes, used: bytes, ahead: bytes, foreign: bytes
) -> tuple[str, DimensionState]:
    return word(name), DimensionState(
        seen=float(seen),
        effective=float(rate),
        used=float(used),
        ahead_s=float(ahead) / SECOND,
        foreign=float(foreign),
    )


def word(text: bytes) -> str:
    """What stands in Redis, as far as a person may see it: anybody may have written it."""
    shown = text[:MOST_BYTES].decode(errors="replace")
    return "".join(each if each.isprintable() else " " for each in shown)
