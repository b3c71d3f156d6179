"""Places among the requests that are under way: of the whole fleet, or of this process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from embedfleet_workers.rate_limits.concurrency import AdaptiveConcurrency
from embedfleet_workers.rate_limits.quota import LimitKey
from embedfleet_workers.rate_limits.stores.limit_store import LimitStore


class Slot(Protocol):
    """One of the requests under way."""

    async def leave(self, *, answered: bool | None, size: float = 1.0) -> None:
        """The request is over; `answered` is None where its time says nothing."""
        ...


class ProcessSlot:
    """A slot among the requests of this process."""

    def __init__(self, adaptive: AdaptiveConcurrency) -> None:
        self._adaptive = adaptive
        self._entered = 0.0

    async def enter(self, wait_s: float) -> bool:
        entered = await self._adaptive.enter(wait_s)
        self._entered = entered or 0.0
        return entered is not None

    async def leave(self, *, answered: bool | None, size: float = 1.0) -> None:
        self._adaptive.leave(self._entered, answered=answered, size=size)


@dataclass(frozen=True, slots=True)
class FleetSlot:
    """A slot among the requests of the whole fleet."""

    store: LimitStore
    key: LimitKey
    ticket: str
    slots: int

    async def enter(self, lease_s: float, wait_s: float) -> bool:
        return await self.store.acquire(
            self.key, self.ticket, slots=self.slots, lease_s=lease_s, wait_s=wait_s
        )

    async def leave(
        self,
        *,
        answered: bool | None,  # noqa: ARG002 - the cap is fixed
        size: float = 1.0,  # noqa: ARG002
    ) -> None:
        await self.store.release(self.key, self.ticket, slots=self.slots)
