"""Commits that go on while their slot claims and embeds the next batch."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from embedfleet_workers.outcomes import Outcome

Commit = Callable[[], Outcome]


class Behind:
    """The commits of one slot, each behind the batch that it embeds: one at a time.

    A model that waits for each commit stands still as long as the database takes, which is long
    where that is far, or has to keep an index. The end of the block waits for the last one.
    """

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self._threads = threads
        self._running: Future[Outcome] | None = None
        # What became of the last one that went wrong.
        self.outcome = Outcome.DONE

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.wait()

    def start(self, kept: ExitStack, commit: Commit) -> Outcome:
        """Begin one, after the one before, and take over what is `kept` until it ends.

        It never raises: what becomes of it is the `outcome`.
        """
        self.wait()
        self._running = self._threads.submit(_run, kept.pop_all(), commit)
        return Outcome.DONE

    def wait(self) -> None:
        if self._running is not None:
            running, self._running = self._running, None
            if (outcome := running.result()) is not Outcome.DONE:
                self.outcome = outcome


def _run(kept: ExitStack, commit: Commit) -> Outcome:
    with kept:
        return commit()
