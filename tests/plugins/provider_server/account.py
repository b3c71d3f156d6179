"""What the provider saw: its own account, which no client can talk up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class Totals:
    """Counts since the last reset, of one model."""

    received: int = 0
    """Requests for embeddings that arrived whole."""
    refused: int = 0
    """401, 403, 404, 400 and `insufficient_quota`: no wait would help."""
    limited: int = 0
    """429, because of the quota or of a fault that says so."""
    admitted: int = 0
    """Requests that the quota let through, whatever became of them."""
    tokens: int = 0
    """Tokens of the admitted requests."""
    spoiled: int = 0
    """Admitted, and then a fault of the server."""
    answered: int = 0
    """Admitted and answered whole."""
    abandoned: int = 0
    """The client went before it had its answer."""
    repeated_requests: int = 0
    """Admitted, with at least one text that had been paid for before."""
    repeated_texts: int = 0
    largest: int = 0
    """Tokens of the largest admitted request."""
    foreign_tokens: float = 0
    foreign_requests: float = 0
    seconds: dict[int, list[int]] = field(default_factory=dict)
    """Second of the server's clock -> requests and tokens admitted, 429s."""


@dataclass
class Account:
    """All that was asked of the server, and who asks now."""

    models: dict[str, Totals] = field(default_factory=dict)
    in_flight: int = 0
    most_in_flight: int = 0
    last_received_s: float = 0.0
    longest_s: float = 0.0
    """The longest time between a request and its end: the last byte sent, or the client gone."""
    faults: Counter[str] = field(default_factory=Counter)
    _paid: dict[bytes, int] = field(default_factory=dict)
    """Text -> the number of the request in which it was paid for last."""
    _answered: set[bytes] = field(default_factory=set)
    _number: int = 0

    def of(self, model: str) -> Totals:
        return self.models.setdefault(model, Totals())

    def reset(self, now: float) -> dict[str, Any]:
        """Forget the counts, but not which texts were answered; returns what they were."""
        before = self.shown(now)
        self.models.clear()
        self.faults.clear()
        self.most_in_flight = self.in_flight
        self.longest_s = 0.0
        return before

    def received(self, model: str, now: float) -> None:
        self.of(model).received += 1
        self.last_received_s = now

    def limited(self, model: str, now: float) -> None:
        totals = self.of(model)
        totals.limited += 1
        totals.seconds.setdefault(int(now), [0, 0, 0])[2] += 1

    def admitted(self, model: str, now: float, tokens: int) -> None:
        totals = self.of(model)
        totals.admitted += 1
        totals.tokens += tokens
        totals.largest = max(totals.largest, tokens)
        second = totals.seconds.setdefault(int(now), [0, 0, 0])
        second[0] += 1
        second[1] += tokens

    def paid(self, model: str, digests: Iterable[bytes]) -> None:
        """The client pays for these, whether it stays for the answer or not."""
        totals, again = self.of(model), 0
        self._number += 1
        for digest in digests:
            again += digest in self._paid
            self._paid[digest] = self._number
        totals.repeated_requests += again > 0
        totals.repeated_texts += again

    def answered(self, model: str, digests: Iterable[bytes]) -> None:
        self.of(model).answered += 1
        self._answered.update(digests)

    def paid_of(self, digests: Iterable[bytes]) -> tuple[int, int]:
        """In how many requests texts were paid for, and how many of the texts."""
        found = [self._paid[each] for each in digests if each in self._paid]
        return len(set(found)), len(found)

    def shown(self, now: float) -> dict[str, Any]:
        models = {name: asdict(totals) for name, totals in self.models.items()}
        for each in models.values():
            each["seconds"] = [[second, *counts] for second, counts in each["seconds"].items()]
        return {
            "now_s": now,
            "models": models,
            "in_flight": self.in_flight,
            "most_in_flight": self.most_in_flight,
            "last_received_s": self.last_received_s,
            "longest_s": self.longest_s,
            "faults": dict(self.faults),
            "texts_paid": len(self._paid),
            "texts_answered": len(self._answered),
        }
