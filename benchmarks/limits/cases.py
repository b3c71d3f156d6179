"""The cases, as data: a quota, the texts, what happens in mid-run, and what must hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from limits import events
from limits.stand import MODEL, Stand

TOKENS = 300_000.0
REQUESTS = 1_200.0
TARGET = 0.985


@dataclass(frozen=True)
class Bound:
    """What a figure has to be; `name` is that of a figure in `figures.py` or of an event."""

    name: str
    least: float | None = None
    most: float | None = None

    def holds(self, figures: Mapping[str, float]) -> bool:
        value = figures.get(self.name)
        if value is None:
            return False
        return (self.least is None or value >= self.least) and (
            self.most is None or value <= self.most
        )

    def __str__(self) -> str:
        low = f"{self.least:g} <= " if self.least is not None else ""
        high = f" <= {self.most:g}" if self.most is not None else ""
        return f"{low}{self.name}{high}"


@dataclass(frozen=True)
class Case:
    """`words` are the sizes that texts are drawn from, equally often."""

    name: str
    what: str
    bounds: tuple[Bound, ...]
    provider: Mapping[str, Any] = field(default_factory=lambda: {"limits": {"tokens": TOKENS}})
    words: tuple[int, ...] = (100,)
    # Settings of the workers and of the producer, without EMBEDFLEET_.
    settings: Mapping[str, Any] = field(default_factory=dict)
    # Called at a share of the measured time.
    events: tuple[tuple[float, Callable[[Stand], None]], ...] = ()
    # Called before the first text is enqueued, and after the last figure was taken.
    before: Callable[[Stand], None] | None = None
    after: Callable[[Stand], None] | None = None
    # How many texts there are, as a share of what the quota lets through in the whole time.
    amount: float = 1.15
    # Let the job finish, instead of cancelling what is left when the time is over.
    to_the_end: bool = False
    # A provider that remembers a minute is not in step before that is over.
    least_warmup_s: float = 0.0
    # What the clock of each worker is wrong by, in seconds.
    skews: tuple[int, ...] = (0, 0, 0, 0)
    model: str = MODEL
    # Whether a person sets the limits; how many workers there are; the dimensions that are measured
    # where it is not the one that these texts exhaust: of several the one that was used most.
    is_set: bool = True
    workers: int = 4
    measured: tuple[str, ...] = ()

    def held(self, runs: Sequence[Mapping[str, float]]) -> bool:
        """Whether every bound holds in every run."""
        return all(bound.holds(figures) for bound in self.bounds for figures in runs)

    @property
    def limits(self) -> dict[str, float]:
        """The dimensions that the quota is measured in, first the one that these texts exhaust."""
        given = self.provider["limits"]
        found = self.measured or (("requests",) if "requests" in given else ("tokens",))
        return {name: float(given[name]) for name in found}

    def texts_for(self, seconds: float) -> int:
        """How many texts keep the quota busy for so long."""
        mean = sum(self.words) / len(self.words)
        binding, tokens = next(iter(self.limits.items()))
        if binding == "requests":
            # Texts fill a batch, and a batch of these cases is one request.
            tokens *= mean * max(1, self.settings["batch_tokens_api"] // mean)
        return int(tokens / mean / 60 * seconds * self.amount)


def share(most: float) -> Bound:
    return Bound("limited_share", most=most)


# Both hold wherever nothing is broken on purpose.
KEPT = (Bound("lost", most=0), Bound("paid_twice", most=0))
PROMISE = (Bound("used", least=0.98, most=1.005), share(0.001), *KEPT)
# Three texts fill a batch, which is one request.
TINY = {"words": (20,), "settings": {"batch_tokens_api": 64}}
PER_REQUEST = {"limits": {"requests": REQUESTS, "tokens": 10 * TOKENS}}

# A batch is larger than the tokens of a minute.
SMALL = {"requests": 600.0, "tokens": 60_000.0}
SHAPED = {
    "words": (150,),
    "is_set": False,
    "workers": 2,
    "measured": ("tokens",),
    "amount": 3.0,
}

CASES = {
    case.name: case
    for case in (
        Case("R1", "bucket, 300k tokens/min", PROMISE),
        # Nothing in the bucket forgives a burst.
        Case(
            "R1-empty",
            "R1 with an empty bucket",
            PROMISE,
            {"limits": {"tokens": TOKENS}, "filled": 0.0},
            least_warmup_s=60,
        ),
        Case("R2", "bucket, 1,200 requests/min", PROMISE, PER_REQUEST, **TINY),
        Case(
            "R3",
            "sliding log",
            (Bound("used", least=0.98), share(0.005), *KEPT),
            {"quota": "log:60", "limits": {"tokens": TOKENS}},
            least_warmup_s=60,
        ),
        Case(
            "R4",
            "sliced into seconds",
            (Bound("used", least=0.98), share(0.01), *KEPT),
            {"quota": "slices:1", **PER_REQUEST},
            **TINY,
        ),
        Case(
            "R5",
            "19 small requests, then a large one",
            (Bound("used", least=0.98), Bound("longest_wait_s", most=10), *KEPT),
            words=(100,) * 19 + (3_000,),
            # A text that is larger than a batch's budget is a batch of its own.
            settings={"batch_tokens_api": 128},
        ),
        Case(
            "R6",
            "limit halved in mid-run",
            (
                Bound("limited_share_after", most=0.02),
                Bound("used_from_30_s_on", least=0.95),
                *KEPT,
            ),
            events=((1 / 3, events.halve_limits),),
            after=events.after_halving,
        ),
        Case(
            "R7",
            "another program takes 30%",
            (Bound("used_together", least=0.95), share(0.02), *KEPT),
            # A full bucket would take four minutes to be empty.
            {"limits": {"tokens": TOKENS}, "foreign": 0.3, "filled": 0.05},
            least_warmup_s=60,
        ),
        Case(
            "R8",
            "kill -9 of 2 of 4, three times; Valkey empty",
            (
                Bound("used", least=0.95),
                Bound("lost", most=0),
                Bound("dead", most=0),
                Bound("repeated_beyond_in_flight", most=0),
            ),
            {"limits": {"tokens": TOKENS}, "latency_s": 0.3, "jitter_s": 0.2},
            events=(
                (0.1, events.kill_two),
                (0.35, events.kill_two),
                (0.5, events.empty_valkey),
                (0.6, events.kill_two),
            ),
            # Small batches and many: each slot of a dead worker holds one until its lease is over,
            # and the others must not run out of work meanwhile.
            settings={"batch_tokens_api": 6_000},
            amount=1.6,
            to_the_end=True,
        ),
        Case(
            "R9",
            "insufficient_quota from now on",
            (
                Bound("calls_beyond_in_flight", most=1),
                Bound("stopped_after_s", most=2),
                Bound("lost", most=0),
            ),
            {**PER_REQUEST, "latency_s": 0.3, "jitter_s": 0.2},
            **TINY,
            events=((0.3, events.exhaust_account), (0.6, events.refill_account)),
            amount=0.7,
            to_the_end=True,
        ),
        Case(
            "R10",
            "every fault in turn",
            (
                Bound("dead", most=0),
                Bound("bad_rows", most=0),
                Bound("lost", most=0),
                Bound("calls_per_answer", most=1.6),
                Bound("longest_call_s", most=events.DEADLINE_S + 1),
            ),
            {**PER_REQUEST, "stall_s": 30, "drip_s": 60},
            **{**TINY, "settings": {**TINY["settings"], "api_timeout_s": events.DEADLINE_S}},
            events=tuple(
                (number / len(events.FAULTS), fault) for number, fault in enumerate(events.FAULTS)
            ),
            amount=0.75,
            to_the_end=True,
        ),
        Case(
            "R11",
            "the key of one space is bad",
            (Bound("used", least=0.95 * TARGET), Bound("other_answers", most=0), *KEPT),
            {"limits": {"tokens": TOKENS}, "refused_keys": [events.BAD_KEY]},
            settings={"mistral_api_key": events.BAD_KEY},
            before=events.start_bad_space,
            after=events.after_bad_space,
        ),
        Case(
            "A1-none",
            "600/60k, neither set nor stated, refusals that say nothing",
            (Bound("used", least=0.5), *KEPT),
            {"limits": SMALL, "tell_limits": False, "refusals": "nothing"},
            least_warmup_s=60,
            **SHAPED,
        ),
        Case(
            "A1-body",
            "600/60k, stated in the body of refusals alone",
            (Bound("used", least=0.9), *KEPT),
            {"limits": SMALL, "tell_limits": False, "refusals": "body"},
            least_warmup_s=60,
            **SHAPED,
        ),
        Case(
            "A2-6",
            "6/30k, set",
            (Bound("used", least=0.95), share(0.0), *KEPT),
            {"limits": {"requests": 6.0, "tokens": 30_000.0}, "tell_limits": False},
            # The last request of each batch is not full: requests bind.
            **{**SHAPED, "is_set": True, "measured": ("tokens", "requests")},
        ),
        Case(
            "A2-120",
            "120/30k, set",
            (Bound("used", least=0.95), share(0.001), *KEPT),
            {"limits": {"requests": 120.0, "tokens": 30_000.0}, "tell_limits": False},
            **{**SHAPED, "is_set": True},
        ),
        *(
            Case(
                f"A3-{workers}",
                f"cold start of {workers} workers, stated in headers, Retry-After of 61 s",
                (Bound("used", least=0.95), Bound("limited", most=0), *KEPT),
                {"limits": SMALL, "least_retry_s": 61},
                **{**SHAPED, "workers": workers},
            )
            for workers in (2, 4)
        ),
        Case("R12", "clocks -5, 0, +5, +30 s", PROMISE, skews=(-5, 0, 5, 30)),
    )
}
