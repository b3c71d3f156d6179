"""Patience with Redis: on a busy machine an answer that is late is none that is missing."""

import pytest

from embedfleet import connections
from embedfleet_schema import broker
from embedfleet_workers.limits import redis_calls


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis is away when it refuses, and never because the machine is busy."""
    monkeypatch.setattr(broker, "RING_S", 60.0)
    monkeypatch.setattr(connections, "SOCKET_TIMEOUT_S", 60.0)
    monkeypatch.setattr(redis_calls, "ANSWER_S", 60.0)
