"""Which way a call takes through our code: its files, its calls, and how deep they are nested."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ROOT = Path(__file__).parents[2]
OURS = tuple(f"{ROOT / folder}/" for folder in ("schema", "workers", "producer", "console"))
# What an expression makes is no step of the story.
EXPRESSIONS = frozenset({"<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>"})


class CallPath:
    """What was called, in its order: in the thread that watches, and on one event loop.

    A step is `file:function`. A task stands as deep as the call that made it: what it does is done
    for its maker.
    """

    def __init__(self) -> None:
        self.steps: list[str] = []
        self._stacks: dict[str, list[str]] = {}
        self._frames: dict[int, FrameType] = {}
        self._made_by: dict[asyncio.Task[Any], list[str]] = {}

    @property
    def files(self) -> list[str]:
        return sorted({_file(step) for step in self.steps})

    @property
    def changes_of_file(self) -> int:
        return sum(_file(one) != _file(next_) for one, next_ in pairwise(self.steps))

    def stack_of(self, function: str) -> list[str]:
        """The steps that led to the first call of a function, the outermost first, itself last."""
        (found,) = [stack for step, stack in self._stacks.items() if step.endswith(f":{function}")]
        return found

    @contextmanager
    def watched(self) -> Iterator[None]:
        sys.setprofile(self._called)
        try:
            yield
        finally:
            sys.setprofile(None)

    async def begin(self) -> None:
        """Watch the running loop, and its thread."""
        asyncio.get_running_loop().set_task_factory(self._task)
        sys.setprofile(self._called)

    async def end(self) -> None:
        sys.setprofile(None)
        asyncio.get_running_loop().set_task_factory(None)

    def _task(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **given: Any) -> Any:
        made_by = self._stack(sys._getframe(1))
        task = asyncio.Task(coroutine, loop=loop, **given)
        self._made_by[task] = made_by
        return task

    def _called(self, frame: FrameType, event: str, _: object) -> None:
        # A coroutine that goes on is no second call; frames are kept, so that no two share an id.
        if event == "call" and _is_ours(frame.f_code) and id(frame) not in self._frames:
            self._frames[id(frame)] = frame
            step = _step(frame.f_code)
            self.steps.append(step)
            self._stacks.setdefault(step, self._stack(frame))

    def _stack(self, frame: FrameType | None) -> list[str]:
        found: list[str] = []
        while frame is not None:
            if _is_ours(frame.f_code):
                found.append(_step(frame.f_code))
            frame = frame.f_back
        try:
            task = asyncio.current_task()
        except RuntimeError:
            task = None
        return (self._made_by.get(task, []) if task else []) + found[::-1]


def _is_ours(code: CodeType) -> bool:
    return code.co_filename.startswith(OURS) and code.co_name not in EXPRESSIONS


def _step(code: CodeType) -> str:
    return f"{Path(code.co_filename).relative_to(ROOT)}:{code.co_qualname}"


def _file(step: str) -> str:
    return step.partition(":")[0]
