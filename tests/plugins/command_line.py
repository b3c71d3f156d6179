"""The command line, run inside the test against the test's fleet."""

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from embedfleet.cli import main
from embedfleet.fleet import Fleet
from plugins.fleets import WorkerMaker, drain

POISON = "poison pill"


@dataclass(frozen=True)
class Answer:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Answer]


@contextmanager
def log_as_before() -> Iterator[None]:
    """What writes the log of this process from inside the block on, writes it no longer."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        for added in set(root.handlers) - set(handlers):
            added.close()
        root.handlers[:] = handlers
        root.setLevel(level)


@pytest.fixture
def command(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Runs a command against the test's fleet."""
    monkeypatch.setenv("EMBEDFLEET_DATABASE_URL", fleet.settings.database)
    monkeypatch.setenv("EMBEDFLEET_REDIS_URL", fleet.settings.redis)
    monkeypatch.setenv("EMBEDFLEET_BATCH_TOKENS_CPU", "64")

    def run(*words: object) -> Answer:
        with log_as_before():
            code = main([str(word) for word in words])
        printed = capsys.readouterr()
        return Answer(code, printed.out, printed.err)

    return run


@pytest.fixture
def handbook(command: Command) -> str:
    """The name of a collection of the fake model."""
    assert 0 == command("collection", "create", "handbook", "--model", "fake/32").code
    return "handbook"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three small documents, one of them Markdown."""
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "a.txt").write_text("The first document.")
    (docs / "b.txt").write_text("The second document.")
    (docs / "c.md").write_text("# Title\n\nThe third document.")
    return docs


@pytest.fixture
def embedded(command: Command, handbook: str, folder: Path, worker: WorkerMaker) -> str:
    """The name of a collection whose three documents are embedded."""
    assert 0 == command("enqueue", handbook, folder).code
    assert {"done"} == set(drain(worker()))
    return handbook


@pytest.fixture
def failed(command: Command, handbook: str, folder: Path, worker: WorkerMaker) -> str:
    """The name of a collection with one document of four that the model does not take."""
    (folder / "d.txt").write_text(f"A {POISON}.")
    assert 0 == command("enqueue", handbook, folder).code
    drain(worker(fake_faults=f"poison={POISON}"))
    return handbook


@pytest.fixture
def embedding(worker: WorkerMaker) -> Iterator[None]:
    """A worker that takes batches beside the test, as one in another process would."""
    runtime = worker()
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            if runtime.run_one("cpu") == "idle":
                ended.wait(0.05)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    ended.set()
    thread.join()
