"""A fleet whose texts go through provider batches, and what the tables say of it."""

from collections.abc import Iterator

import pytest
from pydantic import SecretStr

import embedfleet as ef
from embedfleet.collection import Collection
from embedfleet.fleet import Fleet
from embedfleet_workers.provider_batches.runner import ProviderBatchRunner
from embedfleet_workers.runtime import Launch, Runtime
from plugins import invariants
from plugins.batch_api import DIMENSIONS, BatchServer
from plugins.provider_dialects import KEY
from plugins.worker_processes import eventually

MODEL = "openai/a-model"
PRICE = 1.0
# About five texts to a batch.
BATCH_TOKENS = 64


def take_turn(runner: ProviderBatchRunner) -> None:
    """Let it look once; a turn that was given back is free a moment later."""
    eventually(runner.run_once)


class ProviderBatchFleet:
    """The fleet, the provider, and runners that look when they are told to."""

    def __init__(self, fleet: Fleet, server: BatchServer) -> None:
        self.fleet = fleet
        self.server = server
        self._runners: list[ProviderBatchRunner] = []
        self.rung: list[str] = []

    @property
    def docs(self) -> Collection:
        return self.fleet.collection("docs", model=MODEL, dimensions=DIMENSIONS, max_tokens=512)

    def enqueue(
        self, *names: str, provider_batches: bool = True, budget_usd: float | None = None
    ) -> ef.Job:
        """One document for each name; its text has about twelve tokens."""
        documents = [ef.Document(name, text_of(name)) for name in names]
        return self.docs.enqueue(
            documents, provider_batches=provider_batches, budget_usd=budget_usd
        )

    def runner(self, **options: float) -> ProviderBatchRunner:
        return self._made(self.fleet, **options)

    def failing(self, failpoints: str, **options: float) -> ProviderBatchRunner:
        """A runner that ends at a failpoint, as if its process had been killed there."""
        settings = self.fleet.settings.model_copy(update={"failpoints": failpoints})
        return self._made(Fleet(settings), **options)

    def _made(self, fleet: Fleet, **options: float) -> ProviderBatchRunner:
        self._runners.append(ProviderBatchRunner(fleet.settings, self.rung.append, **options))
        return self._runners[-1]

    def look(self, **options: float) -> None:
        """A process of its own looks once."""
        take_turn(self.runner(**options))

    def ask(self, statement: str, *values: object) -> list[tuple]:
        with self.fleet.db.transaction() as conn:
            return conn.execute(statement, values).fetchall()

    def states(self) -> dict[tuple[str, str], int]:
        """How many batches there are by state and delivery."""
        rows = self.ask("SELECT state, delivery, count(*) FROM embedfleet.batch GROUP BY 1, 2")
        return {(state, delivery): count for state, delivery, count in rows}

    def provider_batches(self) -> list[str]:
        return [
            state
            for (state,) in self.ask("SELECT state FROM embedfleet.provider_batch ORDER BY id")
        ]

    def make_due(self) -> None:
        """End every wait of a batch."""
        with self.fleet.db.transaction() as conn:
            conn.execute("UPDATE embedfleet.batch SET run_after = now() WHERE state = 'pending'")

    def work(self) -> list[str]:
        """An ordinary worker takes what there is for it."""
        runtime = Runtime(self.fleet.settings, Launch(("api",), 1, 1))
        runtime.start()
        outcomes: list[str] = []
        try:
            while (outcome := runtime.run_one("api")) != "idle":
                outcomes.append(outcome)
        finally:
            runtime.stop()
        return outcomes

    def stored(self) -> list[str]:
        """Names of the documents that have their vector, one entry for each vector."""
        info = self.docs.info
        rows = self.ask(
            f"SELECT d.key FROM embedfleet.{info.vectors} AS v"
            f" JOIN embedfleet.{info.chunks} AS c USING (text_id)"
            f" JOIN embedfleet.{info.documents} AS d ON d.id = c.document_id ORDER BY 1"
        )
        return [name for (name,) in rows]

    def failed(self) -> list[str]:
        return sorted(str(each.document) for each in self.docs.failures())

    def filed(self) -> list[str]:
        """Names of what was given to the provider, one entry for each time."""
        return sorted(text.split()[-1] for text in self.server.texts())

    def check(self) -> None:
        invariants.check(self.fleet)

    def close(self) -> None:
        for runner in self._runners:
            runner.stop()


def text_of(name: str) -> str:
    return f"some words that are about as many as a short text has, of {name}"


def names(count: int) -> list[str]:
    return [f"d{number:03}" for number in range(count)]


@pytest.fixture
def batch_fleet(fleet: Fleet, batch_server: BatchServer) -> Iterator[ProviderBatchFleet]:
    settings = fleet.settings.model_copy(
        update={
            "openai_api_key": SecretStr(KEY),
            "openai_base_url": batch_server.url,
            "batch_tokens_api": BATCH_TOKENS,
            "prices": {MODEL: PRICE},
        }
    )
    made = ProviderBatchFleet(Fleet(settings), batch_server)
    yield made
    made.close()
    made.fleet.close()
