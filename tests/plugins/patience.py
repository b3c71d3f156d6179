"""How long tests wait: for Redis as long as a busy machine needs, for a model's rate hardly."""

from collections.abc import Iterator

import pytest

from embedfleet import connections, eta
from embedfleet_schema import broker
from embedfleet_workers.rate_limits.stores import redis_script


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis is away when it refuses, and never because the machine is busy."""
    monkeypatch.setattr(broker, "RING_S", 60.0)
    monkeypatch.setattr(connections, "SOCKET_TIMEOUT_S", 60.0)
    monkeypatch.setattr(redis_script, "ANSWER_S", 60.0)


@pytest.fixture(scope="session", autouse=True)
def _short_tries() -> Iterator[None]:
    """A plan tries the model for a moment: what it finds is no matter to any test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(eta, "TRY_SECONDS", 0.05)
        yield
