"""When the sweeper sweeps; what it sweeps is in `tests/integration/test_sweep.py`."""

import threading
from collections import deque

import pytest

from embedfleet_schema.store.sweep import Swept
from embedfleet_workers import sweeper as under_test
from embedfleet_workers.sweeper import Sweeper

LONG_S = 600.0


class Bell:
    """Is heard when it was rung often enough."""

    def __init__(self, deaf_for: int) -> None:
        self.rings = 0
        self.heard = threading.Event()
        self._deaf_for = deaf_for

    def ring(self, queue: str, count: int) -> bool:
        assert ("api", 3) == (queue, count)
        self.rings += 1
        if self.rings > self._deaf_for:
            self.heard.set()
        return self.heard.is_set()


@pytest.fixture
def sweeps(monkeypatch: pytest.MonkeyPatch) -> "deque[Swept | None]":
    """What the next sweeps find; when there is nothing left, nobody is idle."""
    found: deque[Swept | None] = deque()
    monkeypatch.setattr(under_test, "RING_AGAIN_S", 0.01)
    monkeypatch.setattr(under_test, "sweeping", lambda _db: None)
    monkeypatch.setattr(under_test, "sweep", lambda *_, **__: found.popleft() if found else Swept())
    return found


def idle() -> Swept:
    return Swept(idle={"api": 3})


def test_a_ring_that_is_not_heard_is_tried_again_before_the_next_sweep(sweeps):
    sweeps += [idle() for _ in range(4)]
    bell = Bell(deaf_for=3)
    sweeper = Sweeper(None, bell, every_s=LONG_S)
    sweeper.start()
    assert bell.heard.wait(30)
    sweeper.stop()
    assert 4 == bell.rings
    assert not sweeps


def test_a_slot_whose_ring_was_not_heard_makes_it_hurry(sweeps):
    bell = Bell(deaf_for=0)
    sweeper = Sweeper(None, bell, every_s=LONG_S)
    sweeper.start()
    # Another process is just sweeping, and may have looked too early.
    sweeps += [None, idle()]
    sweeper.hurry()
    assert bell.heard.wait(30)
    sweeper.stop()
