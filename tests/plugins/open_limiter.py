"""A limiter that admits everyone and writes down what it was told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from embedfleet_schema.turns import Lane
from embedfleet_workers.rate_limits.quota import Amounts, LimitKey, Reading
from embedfleet_workers.stop import Stop


@dataclass
class Told:
    """One admission, and how it ended."""

    costs: Amounts
    max_wait_s: float
    lane: Lane = "bulk"
    end: str = ""
    actual: Amounts | None = None
    reading: Reading | None = None
    retry_after_s: float | None = None


@dataclass
class OpenAdmission:
    told: Told

    async def settle(
        self, actual: Amounts | None = None, reading: Reading | None = None, *, timed: bool = True
    ) -> None:
        self._end("settled")
        self.told.actual, self.told.reading = actual, reading

    async def rate_limited(
        self, retry_after_s: float | None = None, reading: Reading | None = None
    ) -> None:
        self._end("rate_limited")
        self.told.retry_after_s, self.told.reading = retry_after_s, reading

    async def withdraw(self) -> None:
        self._end("withdrawn")

    async def failed(self) -> None:
        self._end("failed")

    def _end(self, how: str) -> None:
        assert not self.told.end, f"ended twice: {self.told.end}, {how}"
        self.told.end = how


@dataclass
class OpenLimiter:
    """Admits at once, or does what `before` does: wait or raise."""

    key: LimitKey = field(default_factory=lambda: LimitKey("test", "account", "model"))
    most_tokens: int | None = None
    before: Callable[[Told], object] | None = None
    told: list[Told] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)

    async def look(self) -> None:
        """There are no others."""

    async def admit(
        self, costs: Amounts, *, max_wait_s: float, lane: Lane = "bulk"
    ) -> OpenAdmission:
        told = Told(dict(costs), max_wait_s, lane)
        self.told.append(told)
        if self.before is not None:
            await self.before(told)
        return OpenAdmission(told)

    async def stop(self, stop: Stop) -> None:
        self.stops.append(stop)

    def ends(self) -> list[str]:
        return [told.end for told in self.told]


class OpenRegistry:
    """The same open limiter for everything."""

    def __init__(self, limiter: OpenLimiter | None = None) -> None:
        self.opened: list[tuple[str, str, str]] = []
        self._limiter = limiter or OpenLimiter()

    def limiter(self, provider: str, model: str, account: str) -> OpenLimiter:
        self.opened.append((provider, model, account))
        return self._limiter

    async def close(self) -> None:
        """Nothing to give back."""
