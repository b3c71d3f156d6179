"""Celery's command in processes that need not import what each of them needs: to do so takes a
second of a core. They are forked from a process that has done it, and has read no setting.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import current_process, get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path

# All but the module that reads the settings.
LOADED = [
    "celery.bin.celery",
    "celery.apps.worker",
    "celery.concurrency.prefork",
    "celery.concurrency.solo",
    "celery.concurrency.thread",
    "celery.fixups.django",
    "kombu.transport.redis",
    "embedfleet_workers.embedders.fake",
    "embedfleet_workers.provider_batches.runner",
    "embedfleet_workers.runtime",
    "embedfleet_workers.sweeper",
    "embedfleet_workers.versions",
]


def _context() -> ForkServerContext:
    context = get_context("forkserver")
    context.set_forkserver_preload(LOADED)
    return context


class ForkedCommand:
    """`celery ARGUMENTS`, with the methods of subprocess.Popen that tests ask for."""

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str], log: Path, idle_s: float
    ) -> None:
        values = (list(arguments), dict(environment), str(log), idle_s)
        self._process = _context().Process(target=_main, args=values)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired("celery", timeout or 0)
        return code


def _main(arguments: list[str], environment: dict[str, str], log: str, idle_s: float) -> None:
    current_process().name = "MainProcess"
    os.setsid()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(descriptor, number)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["celery", *arguments]

    from celery.__main__ import main

    from embedfleet_schema import session

    session.IDLE_S = idle_s
    main()
