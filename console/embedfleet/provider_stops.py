"""What a person's `resume` has to clear beside PostgreSQL: the alarm that the limiter holds."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor

log = logging.getLogger(__name__)


def clear_provider_stop(redis_url: str, model: str) -> None:
    """Take back what stopped the model's provider, for every account and group.

    Where Redis is away nothing is lost: an alarm ends by itself within seconds, and until then
    workers that hear it hold their calls.
    """
    from embedfleet_workers.embedding_errors import StoreAway

    provider, _, _ = model.partition("/")
    try:
        # In a thread, because the caller may be inside a loop of its own.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, _clear(redis_url, provider)).result()
    except (StoreAway, ValueError) as error:
        log.warning(
            "Redis did not hear that %s goes on (%s): its calls may wait some seconds more",
            model,
            type(error).__name__,
        )


async def _clear(redis_url: str, provider: str) -> None:
    from embedfleet_workers.rate_limits.stores.redis_store import RedisStore

    store = RedisStore(redis_url)
    try:
        for key in await store.keys():
            if key.provider == provider:
                await store.resume(key)
    finally:
        await store.close()
