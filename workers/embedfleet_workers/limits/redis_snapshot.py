"""What the script says of a limit, put into words."""

from __future__ import annotations

import math
import struct
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from embedfleet_workers.limits.schedule import RECOVERY, SECOND
from embedfleet_workers.limits.store import DimensionState, Snapshot, Stopped

MOST_BYTES = 500
_NUMBERS = struct.Struct("<13d")
_PARTS = struct.Struct("<10d")


def snapshot_of(answer: Sequence[Any]) -> Snapshot:
    """A snapshot from the script's `snapshot`: the time, the oldest slice, and the two hashes."""
    now, oldest, in_flight, waiting, state, use = answer
    fields, at = _pairs(state), float(now)
    _, clock, starts, speed, cut, cut_at, *_, stop_until = _NUMBERS.unpack(fields[b"numbers"])
    used: defaultdict[str, float] = defaultdict(float)
    for field, amount in _pairs(use).items():
        name, _, piece = field.decode().rpartition(":")
        if int(float(piece)) > int(oldest):
            used[name] += float(amount)
    clock += max(0.0, at - starts) * speed
    paused = max(0.0, starts - at)
    dimensions = {}
    for name in sorted(field[1:].decode() for field in fields if field.startswith(b":")):
        turn, rate, seen, foreign, *_ = _PARTS.unpack(fields[b":" + name.encode()])
        ahead = 0.0 if math.isnan(turn) else max(0.0, (turn - clock) / speed)
        dimensions[name] = DimensionState(
            seen, rate, used[name], (ahead + paused) / SECOND, foreign
        )
    stopped = Stopped(_word(fields, b"stop_code"), _word(fields, b"stop_reason"))
    return Snapshot(
        dimensions,
        paused_s=paused / SECOND,
        paused_why=_word(fields, b"why"),
        paused_by=_word(fields, b"by"),
        slowed_to=min(1.0, cut + (at - cut_at) * RECOVERY),
        in_flight=int(in_flight),
        waiting=int(waiting),
        stopped=stopped if stop_until > at else None,
        stopped_by=_word(fields, b"stop_by"),
    )


def _pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _word(fields: dict[bytes, bytes], name: bytes) -> str:
    return word(fields.get(name, b""))


def word(text: bytes) -> str:
    """What stands in Redis, as far as a person may see it: anybody may have written it."""
    shown = text[:MOST_BYTES].decode(errors="replace")
    return "".join(each if each.isprintable() else " " for each in shown)
