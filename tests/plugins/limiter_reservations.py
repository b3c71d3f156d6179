"""Reservations of the limiter as the stores are asked for them, and one over Redis."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from embedfleet_workers.rate_limits.quota import LimitKey
from embedfleet_workers.rate_limits.stores.redis_store import RedisStore

LIMIT = LimitKey("openai", "0123456789abcdef", "text-embedding-3-small")


@dataclass(frozen=True)
class Cost:
    """What a request costs in one dimension, and the limits that its process knows of."""

    amount: float
    quota: float = 0.0
    stated: float = 0.0


def asked(wanted: Mapping[str, Cost]) -> dict[str, Any]:
    """The arguments of `LimitStore.reserve`."""
    return {
        "costs": {name: each.amount for name, each in wanted.items()},
        "quotas": {name: each.quota for name, each in wanted.items() if each.quota},
        "stated": {name: each.stated for name, each in wanted.items() if each.stated},
    }


def reserve(url: str) -> object:
    async def ask() -> object:
        store = RedisStore(url)
        try:
            wanted = asked({"requests": Cost(1.0)})
            return await store.reserve(LIMIT, **wanted, target=1.0, max_wait_s=1.0)
        finally:
            await store.close()

    return asyncio.run(ask())
