"""A worker's pipeline around an embedder of the test's own, taken through batch by batch."""

from collections.abc import Callable, Iterator, Sequence
from uuid import uuid4

from numpy.typing import ArrayLike

from embedfleet.fleet import Fleet
from embedfleet_schema.failpoints import Failpoints
from embedfleet_schema.store.batches import Batches
from embedfleet_schema.store.workers import WorkerIdentity
from embedfleet_schema.turns import Lane
from embedfleet_schema.types import Kind, Space
from embedfleet_workers.allowance import UNLIMITED, Allowance
from embedfleet_workers.cooling import Cooling
from embedfleet_workers.embedders.checks import checked, no_vectors
from embedfleet_workers.embedders.fake import fake_vectors
from embedfleet_workers.embedders.protocol import Embedder, Part, Rows, Spent, Vectors
from embedfleet_workers.embedding_errors import BadAnswer
from embedfleet_workers.heartbeat import Heartbeat
from embedfleet_workers.pipeline import BatchStats, Pipeline

LEASE_S = 60.0
# What it answers is checked, as every embedder checks what it gives out.
Answer = Callable[[Sequence[str], Rows], ArrayLike]


class ScriptedEmbedder:
    """The fake model's vectors, handed to `answer`, which may spoil them or raise."""

    def __init__(self, space: Space, answer: Answer) -> None:
        self.space = space
        self.max_tokens = space.max_tokens
        self.calls = 0
        self._answer = answer

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    def embed(self, texts: Sequence[str], kind: Kind) -> Vectors:
        self.calls += 1
        return checked(
            self._answer(texts, fake_vectors(self.space, texts, kind)), len(texts), self.space
        )

    def close(self) -> None:
        """Nothing to give back."""


class PartsEmbedder(ScriptedEmbedder):
    """The same in parts of a few texts, the last ones first; ten tokens are paid for each text, or
    what `bill` says.

    `before` is called with the number of each part before it is given out, from 0 in every call;
    it may raise. `sent` are the texts that were paid for, `closed` counts iterations that were left
    early.
    """

    def __init__(
        self,
        space: Space,
        size: int,
        *,
        before: Callable[[int], None] = lambda _: None,
        answer: Answer = lambda _, vectors: vectors,
        bill: Callable[[Sequence[str]], int] = lambda texts: 10 * len(texts),
    ) -> None:
        super().__init__(space, answer)
        self.sent: list[str] = []
        self.lanes: list[Lane] = []
        self.closed = 0
        self._size = size
        self._before = before
        self._bill = bill

    def parts(
        self,
        texts: Sequence[str],
        kind: Kind,
        wanted: Callable[[], bool] = lambda: True,
        allowance: Allowance = UNLIMITED,
        lane: Lane = "interactive",
    ) -> Iterator[Part]:
        self.lanes.append(lane)
        rows = list(reversed(range(len(texts))))
        wrong: BadAnswer | None = None
        try:
            for number, start in enumerate(range(0, len(rows), self._size)):
                self._before(number)
                chosen = rows[start : start + self._size]
                asked = [texts[row] for row in chosen]
                allowance.take(chosen)
                self.sent.extend(asked)
                spent = Spent(1, self._bill(asked))
                try:
                    part = Part(chosen, self.embed(asked, kind), spent)
                except BadAnswer as error:
                    part, wrong = Part([], no_vectors(self.space), spent), wrong or error
                allowance.settle(chosen, spent.tokens)
                yield part
                if not wanted():
                    break
        except GeneratorExit:
            self.closed += 1
            raise
        if wrong is not None:
            raise wrong


def pipeline_around(
    fleet: Fleet,
    embedder: Embedder,
    *,
    cooling: Cooling | None = None,
    failpoints: str = "",
    price: float | None = None,
) -> tuple[Pipeline, list[BatchStats]]:
    """A pipeline without a heartbeat thread, and what it tells of each batch."""
    stats: list[BatchStats] = []
    worker = WorkerIdentity(uuid4(), "here", 1, ["cpu"], 1, "cpu", "0", LEASE_S / 4)
    batches = Batches(fleet.db, owner=worker.id, lease_seconds=LEASE_S)
    heartbeat = Heartbeat(fleet.db, batches, worker, lease_s=LEASE_S)
    pipeline = Pipeline(
        batches,
        lambda *_: embedder,
        heartbeat,
        max_attempts=5,
        observe=stats.append,
        failpoints=Failpoints.parse(failpoints),
        cooling=cooling,
        price_of=lambda _: price,
    )
    return pipeline, stats


def finish(fleet: Fleet, pipeline: Pipeline) -> list[str]:
    """Take every batch through, those that wait for a later time too; returns the outcomes."""
    outcomes: list[str] = []
    while make_due(fleet):
        while (outcome := pipeline.run_one("cpu")) != "idle":
            outcomes.append(outcome)
    return outcomes


def make_due(fleet: Fleet) -> int:
    """End every wait of a batch; returns how many batches can be claimed."""
    with fleet.db.transaction() as conn:
        return conn.execute(
            "UPDATE embedfleet.batch SET run_after = least(run_after, now())"
            " WHERE state = 'pending'"
        ).rowcount
