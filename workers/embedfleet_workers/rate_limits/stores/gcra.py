"""GCRA over several dimensions, as plain arithmetic: the reference of `gcra.lua`, step by step.

What runs on it: one process without Redis, every process while Redis is away, and the tests, which
hold the two to the same answers and simulate minutes in milliseconds. Change both together.

Each dimension has a theoretical arrival time (`tat`, where its next request stands) and an emission
interval, which one unit takes (https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm). They
stand on a clock of their own, which stops during a pause and runs slower when the rate falls: so
whoever has reserved keeps his rank, and nothing bunches up behind a pause. Times are microseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import uuid4

from embedfleet_workers.rate_limits.quota import Amounts, Reading, in_force
from embedfleet_workers.rate_limits.stores import learning
from embedfleet_workers.rate_limits.stores.learning import MINUTE, SECOND
from embedfleet_workers.rate_limits.stores.limit_store import NEAR_S, STOP_S, Penalty
from embedfleet_workers.stop import Stop

NEAR, STOP = NEAR_S * SECOND, STOP_S * SECOND
# What may be sent at once after nobody sent anything: little beside a provider's minute.
BURST = 0.25 * SECOND
# How far a dimension may fall behind another and catch up: where some requests are large in tokens
# and others many, each dimension binds for a while.
LAG = 3 * SECOND
# What is missing on the server beyond our own use, as a share of the quota, is somebody else's
# from here on; below that it is noise.
TOLERANCE = 0.02
FOREIGN_TAU, MOST_FOREIGN = 10 * SECOND, 0.9
# A server that never showed this share of its limit to be left may count in something smaller than
# a minute, and what it misses says nothing, until it refuses a request for want of just that.
PLAUSIBLE = 0.25
# Below this share left on the server, a shared key is slowed further, so that it is not empty.
RESERVE = 0.04
# 429s that came despite pauses within the time, and their share of what was sent, cut the rate.
STRIKES = 3
STRIKE_SHARE = 0.1
STRIKE_TIME = 10 * SECOND
CUT = 0.8
SLOWEST = 0.05
RECOVERY = 0.02 / (5 * SECOND)
# Pauses that nobody told us double from the first to the longest.
FIRST_PAUSE = 0.5 * SECOND
LONGEST_PAUSE = 15 * SECOND
# How long one request goes ahead of the others; and nobody stands further ahead of the clock.
PROBE, FAR = 2 * SECOND, 2 * MINUTE


@dataclass(slots=True)
class Dimension:
    """One dimension: `tat` is where its next request may stand, `rate` is per minute, 0 for none.

    `stated` is the limit from headers. `foreign` is the share of the quota that somebody else uses.
    `left` is the share that the server has left, `most` the largest that this ever was. `learnt` is
    what it goes by as long as no limit is `known`.
    """

    tat: float | None = None
    rate: float = 0.0
    stated: float = 0.0
    foreign: float = 0.0
    left: float = 1.0
    most: float = 0.0
    stated_at: float = 0.0
    sent: dict[int, float] = field(default_factory=dict)
    known: bool = False
    # A rate that refusals taught, when it grew and was cut, and what it was before the last cut.
    learnt: float = 0.0
    grown_at: float = 0.0
    cut_at: float = 0.0
    before: float = 0.0
    before_at: float = 0.0
    # What was answered of late, and the most of it within a minute before a refusal.
    answered: dict[int, float] = field(default_factory=dict)
    peak: float = 0.0

    def use(self, now: float, amount: float) -> None:
        learning.add(self.sent, now, amount)

    def used(self, now: float) -> float:
        """What we sent within the last minute."""
        return learning.total(self.sent, now)

    def target_rate(self, quota: float, factor: float) -> float:
        """The rate to keep: the smaller of what is set and what is seen, less what others use."""
        if not self.known:
            return self.learnt
        shared = 1.0 - self.foreign
        if self.foreign > 0 and self.left < RESERVE:
            shared *= 0.5 + 0.5 * self.left / RESERVE
        return in_force(quota, self.stated) * factor * shared

    def read(self, now: float, limit: float, used: float) -> None:
        if limit <= 0:
            return
        self.stated = limit
        if used < 0:
            return
        self.left = max(0.0, 1.0 - used / limit)
        self.most = max(self.most, self.left)
        if self.most < PLAUSIBLE:
            return
        foreign = (used - self.used(now)) / limit - TOLERANCE
        weight = min(1.0, max(0.0, now - self.stated_at) / FOREIGN_TAU)
        self.foreign += weight * (min(MOST_FOREIGN, max(0.0, foreign)) - self.foreign)
        self.stated_at = now


class Gcra:
    """Everything that is known of one limit."""

    def __init__(self, epoch: str, now: float) -> None:
        self.epoch, self.born = epoch, now
        self.clock, self.starts, self.speed = 0.0, now, 1.0
        self.dimensions: dict[str, Dimension] = {}
        self.cut, self.cut_at = 1.0, now
        self.refusals, self.refused_at, self.probing = 0, 0.0, False
        # What `learning` knows: whether anything was answered, whether the first request is out
        # alone, the most tokens of a request (0: any number), and what is left unused of a rate.
        self.answered = self.alone = self.told = False
        self.size, self.ceiling, self.ceiling_at = 0.0, 0.0, 0.0
        self.fits = self.suspect = 0.0
        self.doubts, self.doubted_at, self.slack, self.slack_at = 0.0, 0.0, 0.0, 0.0
        self._count_anew(now)
        self.why, self.by = "", ""
        self.stop: Stop | None = None
        self.stop_by, self.stop_until = "", 0.0

    def stopped(self, now: float) -> Stop | None:
        return self.stop if now < self.stop_until <= now + STOP else None

    def time(self, now: float) -> float:
        """What the clock of this state shows."""
        return self.clock + max(0.0, now - self.starts) * self.speed

    def wait(self, at: float, now: float) -> float:
        """Microseconds until the clock of this state shows `at`."""
        return max(0.0, (at - self.time(now)) / self.speed) + max(0.0, self.starts - now)

    def ahead(self, name: str, now: float) -> float:
        """Microseconds until a request that comes now would be sent, for this dimension's sake."""
        return self.wait(self.dimensions[name].tat or 0.0, now)

    def factor(self, now: float) -> float:
        """What a cut left of the rate, grown again since."""
        return min(1.0, self.cut + (now - self.cut_at) * RECOVERY)

    def reserve(self, now: float, costs: Amounts, max_wait: float) -> tuple[bool, float, float]:
        """Whether it was reserved, the request's arrival time, and the wait for it."""
        clock = self.time(now)
        bound = [each for each in map(self.dimension, costs) if each.rate > 0]
        # The first request to a server of which nothing is known goes alone.
        self.alone = not (self.answered or bound)
        for each in bound:
            if each.tat is None:
                # No credit at first: whoever lost the state may just have spent it. What was sent
                # before the limit was known counts, unless a refusal said how long to wait.
                counts = each.known and not self.told
                sent = each.used(now) * self._emission_interval(each) if counts else 0.0
                each.tat = clock + min(sent, MINUTE * self.speed)
        head = max((each.tat or 0.0 for each in bound), default=clock)
        idle = max(0.0, clock - BURST * self.speed - head)
        at = max(clock, head + idle)
        wait = self.wait(at, now)
        if wait > max_wait:
            return False, at, wait
        for name, cost in costs.items():
            each = self.dimensions[name]
            if each.tat is not None and each.rate > 0:
                behind = max(each.tat + idle, at - LAG * self.speed)
                each.tat = behind + cost * self._emission_interval(each)
        if wait <= NEAR:
            self._send(now, costs)
        return True, at, wait

    def confirm(self, now: float, at: float, costs: Amounts) -> float:
        """The wait that is left; with none left the request counts as sent."""
        wait = self.wait(at, now)
        if wait <= NEAR:
            self._send(now, costs)
        return wait

    def withdraw(self, now: float, at: float, amounts: Amounts) -> None:
        """Give back a reservation that was not used, if nobody stands behind it.

        Those behind keep their times, so an earlier one stays empty: to hand it out again at the
        end of the queue would book somebody's time twice.
        """
        ends = [
            (self.dimensions[name].tat or 0.0)
            - at
            - amount * self._emission_interval(self.dimensions[name])
            for name, amount in amounts.items()
            if name in self.dimensions and self.dimensions[name].rate > 0
        ]
        if any(abs(end) <= NEAR for end in ends):
            self.give_back(now, amounts, sent=False)

    def give_back(self, now: float, amounts: Amounts, *, sent: bool) -> None:
        for name, amount in amounts.items():
            dimension = self.dimension(name)
            if dimension.tat is not None and dimension.rate > 0:
                dimension.tat -= amount * self._emission_interval(dimension)
            if sent:
                dimension.use(now, -amount)

    def settle(self, now: float, admitted: float, costs: Amounts) -> None:
        """An answer to a request that was sent at `admitted`: the provider serves again."""
        learning.answer(self, now, costs)
        if admitted > self.refused_at:
            self.refusals = 0
            if self.probing or self.alone:
                self.starts = min(self.starts, now)
            self.probing = False
            self._hear()

    def resume(self, now: float) -> None:
        """A person says that the provider serves again: neither stop nor pause stands."""
        self.stop_until = 0.0
        self.refusals, self.probing = 0, False
        self.starts = min(self.starts, now)

    def read(self, now: float, reading: Reading) -> None:
        for name, limit in reading.limits.items():
            self.dimension(name).read(now, limit, reading.used(name))
        if reading.limits:
            self._hear()

    def _hear(self) -> None:
        """Something is known of the server now: what was reserved before is void."""
        if self.alone:
            self.alone, self.epoch = False, uuid4().hex

    def penalize(self, now: float, admitted: float, refunds: Amounts, penalty: Penalty) -> float:
        """Pause; returns for how long."""
        for name, amount in refunds.items():
            dimension = self.dimension(name)
            dimension.use(now, -amount)
            # Before the first minute is over, what is missing may be our own use, long forgotten.
            if dimension.left < RESERVE and now - self.born >= MINUTE:
                dimension.most = max(dimension.most, PLAUSIBLE)
        pause = max(0.0, penalty.pause_s * SECOND)
        if admitted > self.refused_at:
            if self.alone:
                self.starts = min(self.starts, now)
            learning.refuse(self, now, refunds, penalty)
            # What was refused took nothing: the next in the queue takes its time. Of requests that
            # were refused together one has room after the pause.
            self.clock, self.starts = self.time(now) + self._lead(refunds), max(self.starts, now)
            self.refusals += 1
            self.refused_at = now
            self._strike(now)
            # The server's word is enough until its refusals repeat without any success.
            grown = self.refusals - (3 if penalty.pause_s >= 0 else 1)
            if grown >= 0:
                pause = max(pause, min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(grown, 10)))
            self.probing = self.refusals >= 2  # noqa: PLR2004 - the second without a success
        pause += penalty.jitter * min(0.1 * pause, 0.5 * SECOND)
        if now + pause > self.starts:
            self.clock, self.starts = self.time(now), now + pause
            self.why, self.by = penalty.why, penalty.by
        return max(0.0, self.starts - now)

    def _lead(self, amounts: Amounts) -> float:
        """What the amounts take in the dimension that is at the head of the queue."""
        bound = [name for name in amounts if self.dimension(name).rate > 0]
        head = max(bound, key=lambda name: self.dimensions[name].tat or 0.0, default=None)
        return (
            0.0 if head is None else amounts[head] * self._emission_interval(self.dimensions[head])
        )

    def _send(self, now: float, costs: Amounts) -> None:
        for name, cost in costs.items():
            self.dimension(name).use(now, cost)
        if now - self.counted_from > STRIKE_TIME:
            self._count_anew(now)
        self.sent += 1
        if self.probing or self.alone:
            # One request goes ahead of all others to see whether the provider serves again.
            self.clock, self.starts = self.time(now), now + PROBE

    def _strike(self, now: float) -> None:
        if now - self.counted_from > STRIKE_TIME:
            self._count_anew(now)
        self.strikes += 1
        if self.strikes >= STRIKES and self.strikes >= STRIKE_SHARE * self.sent:
            self.cut, self.cut_at = max(SLOWEST, self.factor(now) * CUT), now
            self._count_anew(now)

    def _count_anew(self, now: float) -> None:
        self.counted_from, self.sent, self.strikes = now, 0, 0

    def retune(
        self, now: float, costs: Amounts, quotas: Amounts, stated: Amounts, target: float
    ) -> None:
        """Take on changed rates; who waits already waits longer or shorter in step."""
        factor, clock = self.factor(now) * (1 - learning.unused(self, now)) * target, self.time(now)
        asked = {name: self.dimension(name) for name in costs}
        self._know(asked, quotas, stated)
        for each in asked.values():
            if each.tat is not None:
                each.tat = min(each.tat, clock + FAR * self.speed)
        # Who is far behind the head of the queue does not decide how fast the queue moves.
        head = max((each.tat or 0.0 for each in asked.values()), default=0.0)
        close = max(clock, head - LAG * self.speed / 2)
        binding: list[tuple[Dimension, float]] = []
        for name, dimension in asked.items():
            learning.grow(dimension, now)
            goal = dimension.target_rate(quotas.get(name, 0.0), factor)
            if (dimension.tat or 0.0) > close and dimension.rate > 0 and goal > 0:
                binding.append((dimension, goal / dimension.rate))
            dimension.rate = goal
        if all(ratio == 1.0 for _, ratio in binding):
            return
        # The queue takes as long as the dimension that has most to do needs at its new rate.
        needed = max(((each.tat or 0.0) - clock) / ratio for each, ratio in binding)
        change = (head - clock) / needed
        self.clock, self.starts = clock, max(self.starts, now)
        self.speed *= change
        for dimension, ratio in binding:
            dimension.tat = clock + ((dimension.tat or 0.0) - clock) * change / ratio

    def _know(self, asked: Mapping[str, Dimension], quotas: Amounts, stated: Amounts) -> None:
        """Which limits are known. A new one explains what was refused before it."""
        is_new = False
        for name, dimension in asked.items():
            if dimension.stated <= 0 < stated.get(name, 0.0):
                dimension.stated = stated[name]
            before = dimension.known
            dimension.known = in_force(quotas.get(name, 0.0), dimension.stated) > 0
            is_new = is_new or (dimension.known and not before)
        if is_new:
            self.size = self.ceiling = 0.0
            for dimension in asked.values():
                if not dimension.known:
                    dimension.learnt = 0.0

    def _emission_interval(self, dimension: Dimension) -> float:
        """What one unit takes of the clock."""
        return self.speed * MINUTE / dimension.rate

    def dimension(self, name: str) -> Dimension:
        return self.dimensions.setdefault(name, Dimension())

    def look_at(self, name: str) -> Dimension:
        return self.dimensions.get(name) or Dimension()
