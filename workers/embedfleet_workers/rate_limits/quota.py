"""What a caller of a provider asks of the limiter, and what both mean by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from embedfleet_workers.stop import Stop

# Amounts by dimension. A provider counts what it likes: `requests`, `tokens`, `inputs`.
Amounts = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class LimitKey:
    """What shares one limit: an account of a provider, and a group of its models.

    `account` is a hash of the API key and its endpoint, never the key; `group` is the model's own
    name unless several models draw on one limit.
    """

    provider: str
    account: str
    group: str

    def __str__(self) -> str:
        return f"{self.provider}/{self.account}/{self.group}"


@dataclass(frozen=True, slots=True)
class Observed:
    """What the headers of an answer say: limits per minute, and how much of them is left."""

    limits: Amounts = field(default_factory=dict)
    remaining: Amounts = field(default_factory=dict)


class Admission(Protocol):
    """The right to send one request now. It ends with exactly one of these calls."""

    async def settle(
        self, actual: Amounts | None = None, seen: Observed | None = None, *, timed: bool = True
    ) -> None:
        """The request was answered; `actual` corrects what had been reserved for it.

        `timed` is false where the time that it took does not tell how fast the provider embeds.
        """
        ...

    async def rate_limited(
        self, retry_after_s: float | None = None, seen: Observed | None = None
    ) -> None:
        """The provider answered 429: the whole fleet waits, this request asks again."""
        ...

    async def failed(self) -> None:
        """No usable answer came: a fault of the server, a time-out, a lost connection."""
        ...


class Limiter(Protocol):
    """Admits the requests of this process to what `key` names, in step with all other processes."""

    @property
    def key(self) -> LimitKey: ...

    @property
    def most_tokens(self) -> int | None:
        """How large one request should be at the most, in tokens; None where nothing is known.

        A request of more than a hundredth of the quota of a minute cannot be spread evenly.
        """
        ...

    async def admit(self, costs: Amounts, *, max_wait_s: float) -> Admission:
        """Wait for the turn of a request that costs this much; first come, first served.

        Raises:
            EmbedderBusy: the turn is further away than `max_wait_s`; nothing was reserved.
        """
        ...

    async def stop(self, stop: Stop) -> None:
        """Tell the whole fleet at once that the provider refuses this account."""
        ...
