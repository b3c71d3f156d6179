"""What can go wrong between a text and its vector. A class's docstring is its message."""

from __future__ import annotations

from embedfleet_schema.errors import EmbedfleetError
from embedfleet_workers.stop import Stop


class EmbeddingError(EmbedfleetError):
    """Embedding failed: {reason}."""


class InputAtFault(EmbeddingError):
    """The embedder cannot take this input: {reason}."""

    code = "INPUT_REJECTED"


class BadAnswer(EmbeddingError):
    """The embedder's answer is not usable: {reason}."""

    reason: str


class EmbedderBusy(EmbeddingError):
    """The embedder asks to wait {seconds:.1f} s: {reason}."""

    seconds: float


class JobPausedOrCancelled(EmbeddingError):
    """Its job wants nothing more for now: it, or its model, was paused, or it was cancelled."""


class ReservationSpent(EmbeddingError):
    """What was reserved of its job's budget is spent: the rest of the batch is reserved anew."""


class AboveRateLimit(EmbeddingError):
    """One text alone is larger than the provider's rate limit: {reason}. It waits until the limit
    is raised; or cut the documents into smaller chunks.
    """


class ProviderStopped(EmbeddingError):
    """{provider} takes no more work: {reason}. Mend it there, then go on with: embedfleet resume
    {model}
    """

    def __init__(self, stop: Stop, *, provider: str, model: str) -> None:
        self.stop = stop
        super().__init__(provider=provider, model=model, reason=stop.reason)


class BatchApiError(EmbeddingError):
    """The batch API of {provider} did not do what it was asked to: {reason}."""

    reason: str
