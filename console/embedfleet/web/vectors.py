"""Texts of many clients become vectors: gathered into few questions to the workers.

What arrives while a question is on its way goes with the next one, so nothing waits on purpose.
Texts of one client take turns with those of the others, and only so many are with the workers at a
time: a long list delays no single text.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar
from uuid import UUID

from embedfleet.web.web_errors import NotServed, TextRefused
from embedfleet_schema.database import Database, OwnConnection
from embedfleet_schema.errors import NotAnswered
from embedfleet_schema.store import text_requests
from embedfleet_schema.store.text_requests import Answer
from embedfleet_schema.types import CollectionInfo, Kind, Queue

# Texts of one model that are with the workers: each takes up to 32 at once.
WINDOW = 128
# Texts of one client in a turn.
TURN = 8
# Between two looks: first, and once a text has waited for a while.
LOOK_S, LATER_LOOK_S, SOON_S = 0.004, 0.02, 0.3
# So long a client waits without any of its texts being answered.
PATIENCE_S = 45.0
# How `InputAtFault` begins, in the words of a worker.
AT_FAULT = "cannot take this input"

Place = tuple[int, Queue, Kind]
Result = TypeVar("Result")


@dataclass(eq=False)
class Waiting:
    """Texts of one client."""

    texts: Sequence[str]
    done: asyncio.Future[None]
    moved_at: float
    asked: int = 0
    answers: dict[int, Answer] = field(default_factory=dict)
    open: set[UUID] = field(default_factory=set)

    @property
    def is_over(self) -> bool:
        return self.done.done()

    def fail(self, error: BaseException) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class TextVectors:
    """Asks the workers, and hands out their answers. Used from one event loop."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._waiting: OrderedDict[Place, deque[Waiting]] = OrderedDict()
        self._open: dict[UUID, tuple[Waiting, int, Place]] = {}
        self._withdrawn: list[UUID] = []
        self._to_ask, self._to_look = asyncio.Event(), asyncio.Event()
        self._last_asked = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="embedfleet-vectors")

    async def of(self, info: CollectionInfo, texts: Sequence[str], kind: Kind) -> list[Answer]:
        """The vectors of texts in the model of a collection, in their order.

        Who cancels the call takes back what no worker has begun.

        Raises:
            NotServed: no worker serves the model, or none answers.
            TextRefused: the model cannot take one of the texts.
        """
        if not self._tasks:
            self._tasks = [asyncio.create_task(each()) for each in (self._ask, self._look)]
        loop = asyncio.get_running_loop()
        waiting = Waiting(texts, loop.create_future(), loop.time())
        place = (info.space_id, info.queue, kind)
        self._waiting.setdefault(place, deque()).append(waiting)
        self._to_ask.set()
        try:
            while not waiting.is_over:
                left = waiting.moved_at + PATIENCE_S - loop.time()
                if left <= 0:
                    raise NotServed(reason=f"no worker answered within {PATIENCE_S:.0f} s")
                await asyncio.wait({waiting.done}, timeout=left)
            waiting.done.result()
        finally:
            self._leave(waiting)
        return [waiting.answers[n] for n in range(len(texts))]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._threads.shutdown()

    def _leave(self, waiting: Waiting) -> None:
        """What is left of it is nobody's any more."""
        if not waiting.done.cancel() and not waiting.done.cancelled():
            waiting.done.exception()  # looked at, also where nobody waits for it any more
        for request in waiting.open:
            del self._open[request]
        if waiting.open:
            self._withdrawn += waiting.open
            waiting.open.clear()
            self._to_ask.set()

    async def _ask(self) -> None:
        """Ask the workers as long as there is something to ask."""
        own = OwnConnection(self._db)
        try:
            while True:
                await self._to_ask.wait()
                self._to_ask.clear()
                await self._take_back(own)
                for place in list(self._waiting):
                    await self._ask_some(own, place)
        finally:
            own.close()

    async def _take_back(self, own: OwnConnection) -> None:
        gone, self._withdrawn = self._withdrawn, []
        if gone:
            # They go after a minute in any case.
            with suppress(Exception):
                await self._in_thread(lambda: text_requests.withdraw(own, gone))

    async def _ask_some(self, own: OwnConnection, place: Place) -> None:
        chosen = self._chosen(place)
        if not chosen:
            return
        space_id, queue, kind = place
        texts = [waiting.texts[n] for waiting, n in chosen]
        try:
            ids = await self._in_thread(
                lambda: text_requests.ask(own, space_id, queue, texts, kind)
            )
        except NotAnswered as error:
            failed: Exception = NotServed(reason=str(error.__cause__ or error).partition("\n")[0])
            self._fail({waiting for waiting, _ in chosen}, failed)
        except Exception as error:  # noqa: BLE001 - each that waits is told
            self._fail({waiting for waiting, _ in chosen}, error)
        else:
            for request, (waiting, n) in zip(ids, chosen, strict=True):
                if waiting.is_over:
                    self._withdrawn.append(request)
                    self._to_ask.set()
                else:
                    waiting.open.add(request)
                    self._open[request] = (waiting, n, place)
            self._last_asked = asyncio.get_running_loop().time()
            self._to_look.set()

    def _chosen(self, place: Place) -> list[tuple[Waiting, int]]:
        """The next texts of a model, in turns, as far as there is room."""
        line = self._waiting[place]
        room = WINDOW - sum(each == place for _, _, each in self._open.values())
        chosen: list[tuple[Waiting, int]] = []
        while line and room > 0:
            waiting = line.popleft()
            if waiting.is_over:
                continue
            until = min(len(waiting.texts), waiting.asked + min(TURN, room))
            chosen += [(waiting, n) for n in range(waiting.asked, until)]
            room -= until - waiting.asked
            waiting.asked = until
            if until < len(waiting.texts):
                line.append(waiting)
        if not line:
            del self._waiting[place]
        return chosen

    async def _look(self) -> None:
        """Look for answers as long as any are open."""
        own, loop = OwnConnection(self._db), asyncio.get_running_loop()
        try:
            while True:
                if not self._open:
                    self._to_look.clear()
                    await self._to_look.wait()
                ids = list(self._open)
                try:
                    found = await self._in_thread(partial(text_requests.answers, own, ids))
                except Exception as error:  # noqa: BLE001 - each that waits is told
                    self._fail({waiting for waiting, _, _ in self._open.values()}, error)
                    continue
                for answer in found:
                    self._hand_out(answer, loop.time())
                if found:
                    self._to_ask.set()
                else:
                    recent = loop.time() - self._last_asked < SOON_S
                    await asyncio.sleep(LOOK_S if recent else LATER_LOOK_S)
        finally:
            own.close()

    def _hand_out(self, answer: Answer, now: float) -> None:
        if answer.id not in self._open:
            return  # who asked has left
        waiting, n, _ = self._open.pop(answer.id)
        waiting.open.discard(answer.id)
        waiting.moved_at = now
        if answer.vector is None:
            waiting.fail(_refusal(answer))
            return
        waiting.answers[n] = answer
        if len(waiting.answers) == len(waiting.texts) and not waiting.is_over:
            waiting.done.set_result(None)

    def _fail(self, waiting: set[Waiting], error: Exception) -> None:
        for each in waiting:
            each.fail(error)
            self._leave(each)

    async def _in_thread(self, call: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


def _refusal(answer: Answer) -> Exception:
    """Whose fault it is that there is no vector. Why in words stays in the worker's log."""
    if not answer.refused:
        return NotServed(reason="none took the text")
    at_fault = AT_FAULT in (answer.reason or "")
    return TextRefused() if at_fault else NotServed(reason="a worker could not embed the text")
