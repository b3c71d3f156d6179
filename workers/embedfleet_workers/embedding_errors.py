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
    """Its job or its model was paused, or its job was cancelled."""


class ReservationSpent(EmbeddingError):
    """The reserved part of the job's budget is spent. The rest of the batch reserves again."""


class AboveRateLimit(EmbeddingError):
    """One text alone is larger than the provider's rate limit: {reason}. It waits until the limit
    is raised. Raise it, or cut the documents into smaller chunks.
    """


class NotConvertible(EmbeddingError):
    """OpenVINO cannot run the model: {reason}."""


class ProviderStopped(EmbeddingError):
    """{provider} takes no more work: {reason}. Fix it there, then go on with: embedfleet resume
    {model}
    """

    def __init__(self, stop: Stop, *, provider: str, model: str) -> None:
        self.stop = stop
        super().__init__(provider=provider, model=model, reason=stop.reason)


class BatchApiError(EmbeddingError):
    """The batch API of {provider} reported an error: {reason}."""

    reason: str


class RerankFailed(EmbeddingError):
    """{model} gave no scores: {reason}. The same search without a reranker works."""


class StoreAway(ConnectionError):
    """The limiter's store does not answer; it may have done what it was asked, or not."""
