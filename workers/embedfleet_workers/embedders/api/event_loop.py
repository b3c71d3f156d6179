"""The one event loop of a process, in a thread of its own: all its requests wait there."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from embedfleet_workers.embedding_errors import EmbeddingError

Result = TypeVar("Result")

# What is cancelled at the end gets this long to give back what it holds.
CLOSE_S = 5.0


class EventLoop:
    """Starts with the first coroutine, so that it may be made before a fork and used after it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Start a coroutine on the loop; the future belongs to the caller's thread.

        Raises:
            EmbeddingError: the loop was closed.
        """
        try:
            return asyncio.run_coroutine_threadsafe(coroutine, self._running())
        except BaseException:
            coroutine.close()
            raise

    def close(self, goodbye: Callable[[], Awaitable[object]] | None = None) -> None:
        """Cancel what runs, wait for it, say `goodbye`, and end the thread.

        `goodbye` gives back what the coroutines used; nobody is left to miss it. Where none ever
        ran it is not called. Closing twice is harmless.
        """
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
            self._closed = True
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(_end_all(goodbye), loop).result(3 * CLOSE_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(CLOSE_S)
        loop.close()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._closed:
                raise EmbeddingError(reason="its event loop is closed")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="embedfleet-api", daemon=True
                )
                self._thread.start()
            return self._loop


async def _end_all(goodbye: Callable[[], Awaitable[object]] | None) -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=CLOSE_S)
    # Generators that nobody finished.
    await asyncio.get_running_loop().shutdown_asyncgens()
    if goodbye is not None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(goodbye(), CLOSE_S)
    # Transports that were told to close.
    await asyncio.sleep(0)
