"""Enqueueing beside an event loop: whoever cancels the call stops the reading, too."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from embedfleet_schema.types import Document, Rejection

Result = TypeVar("Result")

# How long a call that is cancelled waits for its thread: one that hangs in the caller's own code
# stops when it comes back from there.
STOP_S = 5.0
# A loop that was closed tells nobody, so a thread that waits for it looks now and then.
LOOK_S = 0.5

_END = object()


class AsyncBridge(Iterator[Document | Rejection]):
    """An asynchronous stream for a thread, one document at a time: nothing is read ahead.

    Make it inside the loop that feeds it; one task reads all of the stream.
    """

    def __init__(self, stream: AsyncIterable[Document | Rejection]) -> None:
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Semaphore(1)
        self._items: SimpleQueue[object] = SimpleQueue()

    async def feed(self) -> None:
        """Read the stream to its end and close it; what it raises is raised in the thread."""
        source = aiter(self._stream)
        try:
            while True:
                await self._room.acquire()
                self._items.put(await _next(source))
        except BaseException as error:
            self._items.put(_Raised(error))
            raise
        finally:
            if (close := getattr(source, "aclose", None)) is not None:
                await close()

    def stop(self) -> None:
        """Wake the thread that waits for a document: there is none to come."""
        self._items.put(_Raised(asyncio.CancelledError()))

    def __next__(self) -> Document | Rejection:
        item = self._next()
        if isinstance(item, _Raised):
            raise item.error
        if item is _END:
            raise StopIteration
        with suppress(RuntimeError):  # the loop was closed: the next look tells
            self._loop.call_soon_threadsafe(self._room.release)
        return item  # type: ignore[return-value]

    def _next(self) -> object:
        while True:
            try:
                return self._items.get(timeout=LOOK_S)
            except Empty:
                if self._loop.is_closed():
                    raise asyncio.CancelledError from None


async def _next(source: AsyncIterator[Document | Rejection]) -> object:
    """The next document, or that it was the last one.

    `anext` with a default would do, but it crashes the interpreter where `__anext__` raises before
    it is awaited. A coroutine of its own turns a StopIteration, which is no end, into an error.
    """
    try:
        return await anext(source)
    except StopAsyncIteration:
        return _END


class _Raised:
    def __init__(self, error: BaseException) -> None:
        self.error = error


async def fed(
    stream: AsyncIterable[Document | Rejection],
    work: Callable[[Iterator[Document | Rejection]], Result],
    stopping: threading.Event,
) -> Result:
    """The result of `work` in a thread, which reads an asynchronous stream meanwhile."""
    bridge = AsyncBridge(stream)

    def stop() -> None:
        stopping.set()
        bridge.stop()

    feeding = asyncio.create_task(bridge.feed())
    try:
        return await beside(lambda: work(bridge), stop)
    finally:
        feeding.cancel()
        await asyncio.wait({feeding}, timeout=STOP_S)
        _forget(feeding)


async def beside(work: Callable[[], Result], stop: Callable[[], None]) -> Result:
    """The result of `work` in a thread of its own.

    A call that is cancelled tells it to `stop`, and waits a while for that. The thread is a daemon:
    where the caller's code never comes back, the process can end all the same.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Result] = loop.create_future()
    ended.add_done_callback(_forget)
    run = contextvars.copy_context().run

    def thread() -> None:
        try:
            settle, outcome = ended.set_result, run(work)
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is waited for
            settle, outcome = ended.set_exception, error  # type: ignore[assignment]
        with suppress(RuntimeError):  # the loop was closed, and nobody waits
            loop.call_soon_threadsafe(_once, ended, settle, outcome)

    threading.Thread(target=thread, name="embedfleet-enqueue", daemon=True).start()
    try:
        return await asyncio.shield(ended)
    except asyncio.CancelledError:
        stop()
        await asyncio.wait({ended}, timeout=STOP_S)
        raise


def _once(future: asyncio.Future[Any], settle: Callable[[Any], None], outcome: object) -> None:
    if not future.done():
        settle(outcome)


def _forget(future: asyncio.Future[Any]) -> None:
    """An error that nobody is left to hear is no warning."""
    if future.done() and not future.cancelled():
        future.exception()
