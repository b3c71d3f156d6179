"""What happens in a worker process, for whoever watches it: metrics and traces connect here.

Nothing in the worker knows who listens. Without a receiver, to send costs next to nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from embedfleet_schema.turns import Lane

if TYPE_CHECKING:
    from embedfleet_workers.pipeline import BatchStats

log = logging.getLogger(__name__)

Event = TypeVar("Event")
Result = Literal["answered", "rate_limited", "refused", "faulty"]


class Signal(Generic[Event]):
    """One kind of event. Receivers run in the thread that sends, and must be quick.

    Who sends often makes no event while there are no `receivers`.
    """

    def __init__(self) -> None:
        self.receivers: tuple[Callable[[Event], object], ...] = ()

    def connect(self, receiver: Callable[[Event], object]) -> None:
        if receiver not in self.receivers:
            self.receivers = (*self.receivers, receiver)

    def disconnect(self, receiver: Callable[[Event], object]) -> None:
        self.receivers = tuple(each for each in self.receivers if each != receiver)

    def send(self, event: Event) -> None:
        """Tell every receiver. One that fails is logged: it must not fail what it watches."""
        for receiver in self.receivers:
            try:
                receiver(event)
            except Exception as error:  # noqa: BLE001 - whatever a receiver does wrong
                log.warning("a receiver of events failed: %s", type(error).__name__)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A local model that came, or went (`is_loaded` is false)."""

    space: str
    engine: str
    precision: str
    device: str
    is_loaded: bool = True


@dataclass(frozen=True, slots=True)
class ModelPass:
    """A pack that went through a model; `padding` counts tokens that are no text's."""

    space: str
    tokens: int = 0
    padding: int = 0


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request may be sent, `waited_s` after it was ready. `limit` is `provider/model`."""

    limit: str
    lane: Lane
    waited_s: float


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of a request to a provider."""

    limit: str
    result: Result


batch_ended: Signal[BatchStats] = Signal()
model_changed: Signal[LoadedModel] = Signal()
pass_began: Signal[None] = Signal()
pass_ended: Signal[ModelPass] = Signal()
request_admitted: Signal[Admitted] = Signal()
request_answered: Signal[Answered] = Signal()
