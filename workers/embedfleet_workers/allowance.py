"""What one lease may spend of its job's budget while several of its requests are under way."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from embedfleet_workers.embedding_errors import ReservationSpent


class Allowance:
    """Tokens that are reserved for texts. Each text is paid for once in any case.

    A request that has to be repeated takes from what the others did not need. Where the provider
    counts more than was expected of it, nothing more is sent once all is spent. Thread-safe.
    """

    def __init__(self, bounds: Sequence[int] | None) -> None:
        """`bounds[i]` is the most that the provider is expected to count for text i; None is no
        limit.
        """
        self._bounds = bounds
        self._left = sum(bounds or ())
        self._lock = threading.Lock()

    def take(self, rows: Sequence[int]) -> None:
        """Set aside what a request of these texts may cost.

        Raises:
            ReservationSpent: there is not enough; the request must not be sent.
        """
        if self._bounds is not None:
            needed = sum(self._bounds[row] for row in rows)
            with self._lock:
                if needed > self._left:
                    raise ReservationSpent
                self._left -= needed

    def settle(self, rows: Sequence[int], tokens: int) -> None:
        """A request that was sent has cost so many tokens, none where it was not answered."""
        if self._bounds is not None:
            needed = sum(self._bounds[row] for row in rows)
            with self._lock:
                self._left += needed - tokens


UNLIMITED = Allowance(None)
