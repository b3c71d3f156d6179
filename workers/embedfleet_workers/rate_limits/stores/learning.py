"""What refusals and answers teach of a limit: part of `gcra.py`, and of `gcra.lua` step by step.

Where a limit is neither set nor stated, its rate is found as TCP finds one: what was answered in
the minute before a refusal is the first guess; it grows, and a refusal takes a part of it. The size
of requests doubles with answers, and is halved where a request is refused again. Times are
microseconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from embedfleet_workers.rate_limits.quota import FIRST_TOKENS, MOST_PLAUSIBLE, Amounts

if TYPE_CHECKING:
    from embedfleet_workers.rate_limits.stores.gcra import Dimension, Gcra
    from embedfleet_workers.rate_limits.stores.limit_store import Penalty

SECOND = 1e6
MINUTE = 60 * SECOND
# The window in which amounts are summed, in slices: the oldest is counted whole.
SLICE = 2 * SECOND
SLICES = 31
# A learnt rate grows while it holds somebody back: by little near the limit, then ever faster, with
# the cube of the minutes since the last cut. https://www.rfc-editor.org/rfc/rfc9438 (CUBIC)
GROWTH = 0.012
STEP, LARGEST_STEP = 5 * SECOND, 1.5
# Answers that come so soon after a refusal are to requests that were sent before it.
LATE = 5 * SECOND
# What a refusal leaves of it at the most, and at the least.
AFTER_REFUSAL, LEAST_LEFT = 0.95, 0.7
# A size that was refused though the server had said when to come is left alone so long.
CEILING = 10 * MINUTE
# Refused though only this share of a learnt rate was used, a request was too large.
UNUSED, ALIKE = 0.8, 0.1
# It was only just too large, and two of what is left of it have to fit.
LEFT = 0.45
# By a learnt limit a minute has so many requests, or as many as ever went through, if fewer; one of
# them may be a little larger, so that tokens run out before requests do.
PER_MINUTE, ROOM = 10.0, 1.25
# So many refusals within known limits are no chance; one is forgotten in so long a time.
DOUBTS, FORGET = 2.5, 60 * SECOND
# What is then left unused, if requests cannot be smaller, and how fast it is tried again.
SLACK, MOST_SLACK, TIGHTEN = 0.02, 0.2, 0.02 / (5 * MINUTE)


def add(slices: dict[int, float], now: float, amount: float) -> None:
    """Count an amount among those of the last minute."""
    slot = _forget(slices, now)
    slices[slot] = slices.get(slot, 0.0) + amount


def total(slices: dict[int, float], now: float) -> float:
    """The sum of the last minute."""
    _forget(slices, now)
    return sum(slices.values())


def _forget(slices: dict[int, float], now: float) -> int:
    slot = int(now // SLICE)
    for old in [each for each in slices if each <= slot - SLICES]:
        del slices[old]
    return slot


def largest(gcra: Gcra) -> float:
    """The most tokens that one request may hold by what was learnt; 0 for any number."""
    tokens, requests = gcra.look_at("tokens"), gcra.look_at("requests")
    if tokens.known or tokens.learnt <= 0:
        return gcra.size
    most = ROOM * tokens.learnt / max(1.0, min(PER_MINUTE, requests.peak))
    return min(gcra.size, most) if gcra.size > 0 else most


def unused(gcra: Gcra, now: float) -> float:
    """The share of known limits that is left unused."""
    return max(0.0, gcra.slack - TIGHTEN * (now - gcra.slack_at))


def grow(dimension: Dimension, now: float) -> None:
    """Let a learnt rate grow."""
    if not dimension.known and dimension.learnt > 0 and now - dimension.grown_at >= STEP:
        after = (now - dimension.cut_at) / MINUTE
        before = (dimension.grown_at - dimension.cut_at) / MINUTE
        # After hours of silence the power itself would be too large a number.
        growth = min(math.log(LARGEST_STEP), GROWTH * (after**3 - before**3))
        dimension.learnt = min(MOST_PLAUSIBLE, dimension.learnt * math.exp(growth))
        dimension.grown_at = now


def answer(gcra: Gcra, now: float, costs: Amounts) -> None:
    """A request of these costs was answered; none where the answer says nothing."""
    gcra.answered = True
    for name, cost in costs.items():
        if not (dimension := gcra.dimension(name)).known:
            _answered(dimension, now, cost)
    tokens = costs.get("tokens", 0.0)
    gcra.fits = max(gcra.fits, tokens)
    if tokens <= 0 or 2 * tokens < gcra.size:
        return
    if gcra.size > 0 or not gcra.look_at("tokens").known:
        size = 2 * max(gcra.size, FIRST_TOKENS / 2, tokens)
        held = gcra.ceiling > 0 and now < gcra.ceiling_at + CEILING
        gcra.size = min(size, max(gcra.size, gcra.ceiling / 2)) if held else size


def refuse(gcra: Gcra, now: float, costs: Amounts, penalty: Penalty) -> None:
    """A request was refused, after `gcra.refusals` others without an answer between.

    The first refusal is about the rate. The next one, or one after a minute of silence, is about
    the size.
    """
    tokens = costs.get("tokens", 0.0)
    # In the first minute of a state others may have used the quota, or we before it was lost.
    quiet = gcra.look_at("tokens").used(now) <= 0 and now - gcra.born >= MINUTE
    was_told, gcra.told = gcra.told, penalty.pause_s >= 0
    if gcra.refusals == 0 and not quiet:
        _refuse_first(gcra, now, costs, penalty.about)
    elif tokens > 0 and (gcra.refusals == 1 or quiet):
        # With a minute's quota free, or at the time that was named, it was the size indeed.
        is_certain = gcra.refusals <= 1 and (quiet or was_told)
        if is_certain and not gcra.look_at("tokens").known:
            gcra.ceiling, gcra.ceiling_at = tokens, now
            for name in costs:
                _uncut(gcra.dimension(name))
        gcra.size = max(1.0, min(tokens, gcra.size or tokens) / 2)


def _refuse_first(gcra: Gcra, now: float, costs: Amounts, about: Sequence[str]) -> None:
    if not gcra.answered:
        # The quota was used up before: that says nothing of it.
        return
    asked = {name: gcra.dimension(name) for name in costs}
    # What the server names and we know, it may count in less than a minute; it is not the others.
    named = [name for name in about if name in asked] or list(asked)
    unknown = [name for name in named if not asked[name].known]
    tokens = costs.get("tokens", 0.0) if "tokens" in named else 0.0
    if len(unknown) < len(asked) and not _doubts(gcra, now):
        return
    if not unknown:
        _shrink(gcra, now, tokens)
    elif _is_too_large(gcra, now, tokens):
        gcra.size, gcra.ceiling, gcra.ceiling_at = LEFT * tokens, 2 * LEFT * tokens, now
        # Half as large, they may be twice as many.
        if "requests" in unknown:
            asked["requests"].learnt *= 2
    else:
        for name in unknown:
            _cut(asked[name], now, costs[name])


def _answered(dimension: Dimension, now: float, cost: float) -> None:
    add(dimension.answered, now, cost)
    if dimension.learnt > 0 and now - dimension.cut_at < LATE:
        # It was sent before the refusal that taught the rate.
        dimension.peak = max(dimension.peak, total(dimension.answered, now))
        if dimension.before <= 0:
            dimension.learnt = max(dimension.learnt, total(dimension.answered, now))


def _cut(dimension: Dimension, now: float, cost: float) -> None:
    """A request of this cost was refused."""
    answered = total(dimension.answered, now)
    dimension.peak = max(dimension.peak, answered)
    dimension.before, dimension.before_at = dimension.learnt, dimension.cut_at
    if dimension.learnt > 0:
        least = LEAST_LEFT * dimension.learnt
        dimension.learnt = max(least, AFTER_REFUSAL * min(dimension.learnt, answered))
    else:
        dimension.learnt = max(answered, cost)
    dimension.grown_at = dimension.cut_at = now


def _uncut(dimension: Dimension) -> None:
    """It was not the rate that the last refusal was about."""
    if dimension.before > 0:
        dimension.learnt = max(dimension.learnt, dimension.before)
        dimension.cut_at = dimension.before_at


def _doubts(gcra: Gcra, now: float) -> bool:
    """Whether what is known explains so many refusals, with answers between, no more."""
    gcra.doubts = max(0.0, gcra.doubts - (now - gcra.doubted_at) / FORGET) + 1
    gcra.doubted_at = now
    is_enough = gcra.doubts >= DOUBTS
    if is_enough:
        gcra.doubts = 0.0
    return is_enough


def _is_too_large(gcra: Gcra, now: float, tokens: float) -> bool:
    """Whether it was larger than any that was answered, and not the rate was used up.

    Where few requests are allowed that may look so by chance, but not twice at the same size.
    """
    dimension = gcra.look_at("tokens")
    if tokens <= gcra.fits or total(dimension.answered, now) >= UNUSED * dimension.learnt:
        return False
    before, gcra.suspect = gcra.suspect, tokens
    return abs(tokens - before) <= ALIKE * before


def _shrink(gcra: Gcra, now: float, cost: float) -> None:
    """The server counts in less than a minute; `cost` is 0 where it was not for the tokens.

    It bears smaller requests better, if there may be more of them, and then a lower rate.
    """
    tokens, requests = gcra.look_at("tokens"), gcra.look_at("requests")
    smallest = tokens.rate / requests.rate if requests.rate > 0 else 0.0
    smaller = max(smallest, cost / 2)
    if cost > 0 and 0 < smaller < (gcra.size or cost):
        gcra.size = smaller
        gcra.ceiling, gcra.ceiling_at = 2 * smaller, now
    else:
        gcra.slack, gcra.slack_at = min(MOST_SLACK, unused(gcra, now) + SLACK), now
