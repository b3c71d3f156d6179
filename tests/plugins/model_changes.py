"""A collection that is read and written while its model or its name changes."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import psycopg
import pytest

from embedfleet.collection import Collection
from embedfleet.fleet import Fleet
from embedfleet_schema.errors import CollectionMoved
from embedfleet_schema.settings import load_settings
from embedfleet_schema.types import Chunk, Document, Space
from embedfleet_workers.embedders.fake import FakeEmbedder, fake_vectors
from embedfleet_workers.runtime import Runtime
from plugins.fleets import WorkerMaker, drain

QUESTION = "what is asked"
EVERY_S = 0.005
K = 10


@pytest.fixture
def large_fleet(migrated_url: str, redis_url: str) -> Iterator[Fleet]:
    """A fleet with batches of the usual size."""
    settings = load_settings(database_url=migrated_url, redis_url=redis_url, max_connections=16)
    with Fleet(settings) as fleet:
        yield fleet


@contextmanager
def working(make: WorkerMaker) -> Iterator[Runtime]:
    """A worker that takes every batch as it comes."""
    runtime = make()
    with beside(lambda: drain(runtime), pause_s=0.02):
        yield runtime


@contextmanager
def beside(step: Callable[[], object], *, pause_s: float = EVERY_S) -> Iterator[list[object]]:
    """Do something again and again in a thread; what it raised is raised at the end."""
    ended = threading.Event()
    raised: list[BaseException] = []
    results: list[object] = []

    def run() -> None:
        try:
            while not ended.is_set():
                results.append(step())
                ended.wait(pause_s)
        except BaseException as error:  # noqa: BLE001 - raised below
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield results
    finally:
        ended.set()
        thread.join()
    if raised:
        raise raised[0]


def document(number: int, *, chunks: int, word: str = "text") -> Document:
    parts = [Chunk(f"{word} {number} part {part}") for part in range(chunks)]
    return Document(f"d{number}", chunks=parts)


@dataclass
class DocumentEmbeds:
    """How often each text was embedded as a document, by the width of its vectors."""

    times: dict[tuple[int, str], int] = field(default_factory=dict)

    def twice(self) -> list[tuple[int, str]]:
        return [text for text, count in self.times.items() if count > 1]


@pytest.fixture
def document_embeds(monkeypatch: pytest.MonkeyPatch) -> DocumentEmbeds:
    """Counts what the workers of the test embed."""
    counted = DocumentEmbeds()
    embed = FakeEmbedder.embed

    def counting(self, texts, kind):  # type: ignore[no-untyped-def]
        if kind == "document":
            for text in texts:
                key = (self.space.dimensions, text)
                counted.times[key] = counted.times.get(key, 0) + 1
        return embed(self, texts, kind)

    monkeypatch.setattr(FakeEmbedder, "embed", counting)
    return counted


def is_of(space: Space, vector: np.ndarray, found: list[tuple[str, float]]) -> bool:
    """Whether all scores are those of one space."""
    stored = fake_vectors(space, [content for content, _ in found], "document")
    return bool(np.allclose(stored @ vector, [score for _, score in found], atol=1e-3))


class FunctionReader:
    """Searches by `embedfleet.search` as a client of SQL would: it embeds for the space that the
    collection has, says so, and asks again where it has another one by then.
    """

    def __init__(self, url: str, name: str, spaces: list[Space]) -> None:
        self._conn = psycopg.connect(url, autocommit=True)
        self._name = name
        self._spaces = {space.fingerprint.hex(): space for space in spaces}
        self.seen: set[str] = set()
        self.refused = 0

    def read(self) -> None:
        asked = "SELECT fingerprint FROM embedfleet.space_of(%s)"
        (fingerprint,) = self._conn.execute(asked, [self._name]).fetchone() or ("",)
        space = self._spaces[fingerprint]
        (vector,) = fake_vectors(space, [QUESTION], "query")
        try:
            with self._conn.transaction():
                self._conn.execute("SELECT set_config('embedfleet.space', %s, true)", [fingerprint])
                found = self._conn.execute(
                    "SELECT content, score FROM embedfleet.search(%s, %s::vector, %s)",
                    [self._name, str(vector.tolist()), K],
                ).fetchall()
        except psycopg.DatabaseError as error:
            if error.sqlstate != "EF001":
                raise
            self.refused += 1
            return
        assert len(found) == K, (len(found), space)
        assert is_of(space, vector, found), (space, found)
        self.seen.add(fingerprint)

    def close(self) -> None:
        self._conn.close()


class TextReader:
    """Searches for a text with a handle that was opened before anything changed."""

    def __init__(self, collection: Collection, spaces: list[Space]) -> None:
        self._collection = collection
        self._spaces = spaces

    def read(self) -> None:
        hits = self._collection.search(QUESTION, k=K)
        found = [(hit.content, hit.score) for hit in hits]
        assert len(found) == K, len(found)
        assert any(
            is_of(space, fake_vectors(space, [QUESTION], "query")[0], found)
            for space in self._spaces
        ), found


class Writer:
    """Stores, replaces and deletes documents; what a switch interrupts is done again."""

    def __init__(self, fleet: Fleet, name: str, *, chunks: int) -> None:
        self._collection = fleet.collection(name)
        self._chunks = chunks
        self._rounds = 0
        self.expected: dict[str, str] = {}
        self.moved = 0

    def write(self) -> None:
        number = 1_000_000 + self._rounds % 40
        key, word = f"d{number}", f"round {self._rounds}"
        if self._rounds % 7 == 3:
            self._collection.delete([key])
            self.expected.pop(key, None)
        else:
            self._store(document(number, chunks=self._chunks, word=word))
            self.expected[key] = f"{word} {number} part 0"
        self._rounds += 1
        time.sleep(0.01)

    def _store(self, wanted: Document) -> None:
        for _ in range(10):
            try:
                self._collection.enqueue([wanted])
            except CollectionMoved:
                self.moved += 1
            else:
                return
        raise AssertionError("it moved ten times")
