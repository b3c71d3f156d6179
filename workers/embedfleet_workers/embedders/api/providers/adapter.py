"""What the engine asks of a provider's adapter, and what an adapter may answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from embedfleet_schema.types import Kind
from embedfleet_workers.rate_limits.quota import Amounts, Reading
from embedfleet_workers.stop import Stop


@dataclass(frozen=True, slots=True)
class Caps:
    """What one request may hold at the most; None where the provider states no limit.

    `each_counts`: every text of a request counts as a request of the quota.
    """

    inputs: int
    tokens: int | None = None
    each_counts: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """Vectors as they came: the index of a text, and base64 of little-endian float32 or numbers.

    Nothing in it was checked. `tokens` is what the provider says that it counted.
    """

    items: Sequence[tuple[object, object]]
    tokens: int | None = None
    reading: Reading = field(default_factory=Reading)


@dataclass(frozen=True, slots=True)
class RateLimited:
    """Too early: the request itself is fine."""

    retry_after_s: float | None = None
    reading: Reading = field(default_factory=Reading)


@dataclass(frozen=True, slots=True)
class TooLarge:
    """The request holds too much. `by_limit`: too much for the rate limit, at any time."""

    reason: str
    by_limit: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """The provider takes this request at no time, most likely for one of its texts."""

    reason: str


@dataclass(frozen=True, slots=True)
class Faulty:
    """No usable answer: a fault of the server, a lost connection, a body that makes no sense.

    `answer` is what came, where it was an answer whose vectors are not usable.
    """

    reason: str
    retry_after_s: float | None = None
    bad_answer: bool = False
    answer: Answer | None = None


Reply = Answer | RateLimited | TooLarge | Rejected | Stop | Faulty


class Adapter(Protocol):
    """One model of one provider: its caps, what its quota counts, and its dialect."""

    caps: Caps

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, exact where the tokenizer is at hand, else an estimate."""
        ...

    def costs(self, tokens: Sequence[int]) -> Amounts:
        """What a request of texts with so many tokens takes from the quota."""
        ...

    async def send(self, texts: Sequence[str], kind: Kind) -> Reply:
        """Send one request, once. What goes wrong is a value too: nothing is raised."""
        ...
