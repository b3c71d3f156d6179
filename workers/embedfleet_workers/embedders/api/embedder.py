"""The embedder of every API space: cuts a batch into requests, gives out its answers as parts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from queue import SimpleQueue

import numpy as np

from embedfleet_schema.turns import Lane
from embedfleet_schema.types import Kind
from embedfleet_workers.allowance import UNLIMITED, Allowance
from embedfleet_workers.embedders.api.endpoint import Endpoint, Request
from embedfleet_workers.embedders.api.event_loop import EventLoop
from embedfleet_workers.embedders.api.fan_out import FanOut, WaitPolicy
from embedfleet_workers.embedders.api.token_counts import encoded
from embedfleet_workers.embedders.protocol import Part, Vectors
from embedfleet_workers.embedding_errors import EmbeddingError, InputAtFault

# What was called off gets this long to give back its reservations.
CALL_OFF_S = 5.0


class ApiEmbedder:
    """A model behind an API. Answers come in parts, and each is paid for once.

    `requests` is how many requests of one batch are under way at once, and `first_wait_s` how far
    away the first request of a batch may be.
    """

    def __init__(
        self, endpoint: Endpoint, loop: EventLoop, *, requests: int, first_wait_s: float
    ) -> None:
        self.space = endpoint.space
        self.max_tokens = endpoint.space.max_tokens
        self._endpoint = endpoint
        self._loop = loop
        self._requests = requests
        self._first_wait_s = first_wait_s
        self.closed = False

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return self._endpoint.adapter.count_tokens(texts)

    def embed(self, texts: Sequence[str], kind: Kind) -> Vectors:
        vectors = Vectors(np.empty((len(texts), self.space.dimensions), dtype=np.float32))
        for part in self.parts(texts, kind):
            vectors[list(part.rows)] = part.vectors
        return vectors

    def parts(
        self,
        texts: Sequence[str],
        kind: Kind,
        wanted: Callable[[], bool] = lambda: True,
        allowance: Allowance = UNLIMITED,
        lane: Lane = "interactive",
    ) -> Iterator[Part]:
        if self.closed:
            raise EmbeddingError(reason=f"{self.space.name} is closed")
        whole, unreadable = self._readable(texts, kind)
        if whole.rows:
            policy = WaitPolicy(self._first_wait_s, lane)
            yield from self._answers(whole, kind, wanted, allowance, policy)
        if unreadable is not None:
            raise unreadable

    def close(self) -> None:
        self.closed = True

    def _answers(
        self,
        whole: Request,
        kind: Kind,
        wanted: Callable[[], bool],
        allowance: Allowance,
        policy: WaitPolicy,
    ) -> Iterator[Part]:
        outbox: SimpleQueue[Part | None] = SimpleQueue()
        fan_out = FanOut(self._endpoint, whole, kind, policy, outbox.put, allowance)
        ended = self._loop.run(fan_out.run(self._requests))
        ended.add_done_callback(lambda _: outbox.put(None))
        try:
            while (part := outbox.get()) is not None:
                yield part
                if not wanted():
                    self._loop.run(fan_out.halt())
            ended.result()
        except CancelledError as error:
            raise EmbeddingError(reason=f"{self.space.name} was closed meanwhile") from error
        finally:
            if not ended.done():
                # What cannot be called off in time goes on, and is heard by nobody.
                with contextlib.suppress(TimeoutError):
                    self._loop.run(fan_out.stop()).result(CALL_OFF_S)

    def _readable(self, texts: Sequence[str], kind: Kind) -> tuple[Request, InputAtFault | None]:
        """The texts as they are sent, without those that are no Unicode: neighbours go on."""
        prompt = self.space.document_prompt if kind == "document" else self.space.query_prompt
        rows: list[int] = []
        fault: InputAtFault | None = None
        for row, text in enumerate(texts):
            try:
                encoded(text)
            except InputAtFault as error:
                fault = error
            else:
                rows.append(row)
        readable = [prompt + texts[row] for row in rows]
        return Request(rows, readable, self.count_tokens(readable)), fault
