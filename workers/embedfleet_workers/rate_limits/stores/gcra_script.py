"""The limiter's script: `gcra.lua`, with the numbers that stand in Python put into it.

What the Lua calls by a name in capitals is a constant of `gcra.py`, of `learning.py` or from here.
`s.name` and `d.name` are places among packed numbers, in the order of the lists here: of the state,
and of one dimension. Redis makes every function of a script anew for each call, which costs as much
as it uses names from outside; a figure costs nothing. So a call takes a quarter less time.
"""

from __future__ import annotations

import re
from importlib.resources import files

from embedfleet_workers.rate_limits import quota
from embedfleet_workers.rate_limits.stores import gcra, learning
from embedfleet_workers.rate_limits.stores.learning import MINUTE, SECOND, SLICES

# Moments come first in both, and are never later than now.
STATE_MOMENTS = (
    *("born", "kept_at", "cut_at", "refused_at", "counted_from"),
    *("ceiling_at", "doubted_at", "slack_at"),
)
STATE = (
    *STATE_MOMENTS,
    *("starts", "clock", "speed", "cut", "refusals", "probing", "sent", "strikes", "stop_until"),
    *("answered", "alone", "told", "size", "ceiling", "fits", "suspect", "doubts", "slack"),
)
# A window of a minute is three numbers, each two places behind the other: when its last slice
# began, its sum, and the last slice.
WINDOWS = ("used_from", "served_from", "used", "served", "used_last", "served_last")
MOMENTS = ("stated_at", "grown_at", "cut_at", "before_at", *WINDOWS[:2])
PARTS = (
    *(*MOMENTS, *WINDOWS[2:], "tat", "rate", "stated", "foreign", "left", "most"),
    *("known", "learnt", "peak", "before"),
)
# What a call says of a dimension.
GIVEN = ("amount", "a", "b", "c")
DIMENSION = (*PARTS, *GIVEN, "name")

CONSTANTS = {
    **{name: value for name, value in vars(learning).items() if isinstance(value, int | float)},
    **{name: value for name, value in vars(gcra).items() if isinstance(value, int | float)},
    "FIRST_TOKENS": quota.FIRST_TOKENS,
    "PLAUSIBLE_SHARE": quota.PLAUSIBLE_SHARE,
    "MOST_PLAUSIBLE": quota.MOST_PLAUSIBLE,
    # The state outlives any wait, and a key that nobody uses any more goes.
    "KEEP_MS": 3_600_000,
    # What is believed of numbers that anybody may have written. No provider is believed that asks
    # for more than a day. By a slower, faster or older clock a unit of a limit is lost in rounding.
    "LONGEST_BELIEVED": 86_400 * SECOND + SECOND,
    "LARGEST": 1e18,
    # Where no request of a dimension has stood yet.
    "NOWHERE": -1e18,
    "SLOWEST_CLOCK": 1e-9,
    "FASTEST_CLOCK": 1e9,
    "OLDEST_CLOCK": 1e16,
    "LEAST_LEARNT": 1e-6,
    # A slot that was handed over is taken up at once, or was handed to the dead.
    "TAKE_UP": 5 * SECOND,
    "SILENT": 3 * SECOND,
    "LONGEST_LEASE": 60 * MINUTE,
    "STATE_MOMENTS": len(STATE_MOMENTS),
    "STATE_NUMBERS": len(STATE),
    "STATE_SIZE": 8 * len(STATE),
    "MOMENTS": len(MOMENTS),
    "PARTS": len(PARTS),
    "PARTS_SIZE": 8 * len(PARTS),
    "GIVEN_SIZE": 8 * len(GIVEN),
    "RING_SIZE": 8 * SLICES,
    "USED": DIMENSION.index("used_from") + 1,
    "SERVED": DIMENSION.index("served_from") + 1,
}
FORMATS = {
    "STATE_FORMAT": len(STATE),
    "PARTS_FORMAT": len(PARTS),
    "DIMENSION_FORMAT": len(PARTS) + len(GIVEN),
    "RING_FORMAT": SLICES,
}


def script() -> str:
    """The text that Redis gets."""
    source = files("embedfleet_workers.rate_limits.stores").joinpath("gcra.lua").read_text()
    figures = {name: repr(value) for name, value in CONSTANTS.items()}
    figures |= {name: repr("<" + "d" * count) for name, count in FORMATS.items()}
    text = re.sub(r"--.*", "", source)
    text = re.sub(r"\b(s|d|head|tokens|requests)\.(\w+)", _placed, text)
    return re.sub(r"\b[A-Z][A-Z_]+\b", lambda name: figures.get(name[0], name[0]), text)


def _placed(found: re.Match[str]) -> str:
    fields = STATE if found[1] == "s" else DIMENSION
    return f"{found[1]}[{fields.index(found[2]) + 1}]"
