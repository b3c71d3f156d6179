"""Calls of the fleet that block, in threads of a pool that is bounded, as is what waits for it."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from embedfleet.web.web_errors import TooBusy

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

THREADS = 8
# More would wait longer than a client does.
MOST_WAITING = 256


class Calls:
    """Runs what blocks. Used from one event loop."""

    def __init__(self, threads: int = THREADS, most_waiting: int = MOST_WAITING) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="embedfleet-web")
        self._room = threads + most_waiting

    async def run(
        self, call: Callable[Arguments, Result], *given: Arguments.args, **named: Arguments.kwargs
    ) -> Result:
        """What a call returns or raises.

        Raises:
            TooBusy: too many calls wait already.
        """
        if self._room <= 0:
            raise TooBusy
        self._room -= 1
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self._pool, functools.partial(call, *given, **named))
        running.add_done_callback(self._over)
        return await running

    def close(self) -> None:
        """Begin no more calls, and wait for those that run."""
        self._pool.shutdown(cancel_futures=True)

    def _over(self, call: asyncio.Future[Result]) -> None:
        self._room += 1
        if not call.cancelled():
            call.exception()  # looked at, also where nobody waits for it any more
