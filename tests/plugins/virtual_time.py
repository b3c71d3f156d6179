"""An event loop whose clock jumps to the next thing that happens: a minute takes milliseconds."""

import asyncio
import random
import selectors
from collections.abc import Coroutine
from typing import Any


class _Jumping(selectors.SelectSelector):
    """Looks for nothing and waits for nothing: it moves the loop's clock instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "everything waits, and nothing will ever happen"
        self.now += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """For code that only sleeps; sockets and threads have no virtual time."""

    def __init__(self, start: float = 1e6) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)
        self._jumping.now = start

    def time(self) -> float:
        return self._jumping.now


def run_in_virtual_time(main: Coroutine[Any, Any, Any]) -> Any:
    """Run to the end, and close the loop. Chance falls the same each time."""
    random.seed(1)
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
