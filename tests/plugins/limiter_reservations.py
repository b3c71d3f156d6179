"""One admission of the limiter over Redis, as a worker asks for it."""

import asyncio

from embedfleet_workers.rate_limits.quota import LimitKey
from embedfleet_workers.rate_limits.stores.limit_store import Cost
from embedfleet_workers.rate_limits.stores.redis_store import RedisStore

LIMIT = LimitKey("openai", "0123456789abcdef", "text-embedding-3-small")


def reserve(url: str) -> object:
    async def ask() -> object:
        store = RedisStore(url)
        try:
            return await store.reserve(LIMIT, {"requests": Cost(1.0)}, target=1.0, max_wait_s=1.0)
        finally:
            await store.close()

    return asyncio.run(ask())
