import asyncio
import threading

import pytest

from embedfleet_workers.embedders.api.event_loop import EventLoop
from embedfleet_workers.embedding_errors import EmbeddingError


async def thread_name():
    return threading.current_thread().name


def test_coroutines_run_in_one_thread_of_their_own():
    loop = EventLoop()
    names = {loop.run(thread_name()).result(10) for _ in range(3)}
    loop.close()
    assert {"embedfleet-api"} == names


def test_nothing_is_started_before_the_first_coroutine():
    before = threading.active_count()
    EventLoop().close()
    assert before == threading.active_count()


def test_closing_cancels_what_runs_and_waits_for_it():
    loop = EventLoop()
    started, cleaned = threading.Event(), threading.Event()

    async def wait():
        started.set()
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            cleaned.set()

    ended = loop.run(wait())
    assert started.wait(10)
    loop.close()
    assert (True, True) == (cleaned.is_set(), ended.cancelled())


def test_a_goodbye_is_said_when_nothing_runs_any_more():
    loop, said = EventLoop(), []

    async def wait():
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            said.append("ended")

    async def goodbye():
        said.append("goodbye")

    loop.run(wait())
    loop.run(thread_name()).result(10)
    loop.close(goodbye)
    loop.close(goodbye)
    EventLoop().close(goodbye)
    assert ["ended", "goodbye"] == said


def test_a_closed_loop_closes_again_and_runs_nothing():
    loop = EventLoop()
    loop.run(thread_name()).result(10)
    loop.close()
    loop.close()
    with pytest.raises(EmbeddingError, match="closed"):
        loop.run(thread_name())


def test_an_error_reaches_the_thread_that_waits():
    loop = EventLoop()

    async def fail():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        loop.run(fail()).result(10)
    loop.close()
