"""Several processes cut what one cuts, in its order; those that die are replaced."""

import os
import pickle
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_token_offsets import TEXTS

from embedfleet_producer import cutter_pool
from embedfleet_producer.chunking import Chunker
from embedfleet_producer.cutter_pool import CutterPool, SharedChunker
from embedfleet_producer.prepare import prepare
from embedfleet_producer.tokens import counter_for
from embedfleet_producer.windows import windows
from embedfleet_schema.catalogue.space_lookup import resolve_space
from embedfleet_schema.errors import EmbedfleetError, UsageError
from embedfleet_schema.settings import Settings
from embedfleet_schema.types import Chunk, Chunking, Document, Rejection

SPACE = resolve_space("all-MiniLM-L6-v2")
CHUNKING = Chunking(12, 3, too_long="split")
COUNTER = counter_for(SPACE, CHUNKING)
SETTINGS = Settings(window_documents=7, max_document_bytes=1_000)


def sentences(text):
    """A function of a caller's own, and one with faults."""
    if "raise" in text:
        raise ValueError(text[:20])
    if "die now" in text:
        os.kill(os.getpid(), signal.SIGKILL)
    if "die once" in text and not (once := Path(text.removeprefix("die once "))).exists():
        once.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return [Chunk(part, metadata={"length": len(part)}) for part in text.split(".")]


class Text(str):
    """Text that no other process can have."""

    __slots__ = ()

    def __reduce__(self):
        raise TypeError("I stay here")


@pytest.fixture(autouse=True)
def _shares_all(monkeypatch):
    """However little there is, processes cut it."""
    monkeypatch.setattr(cutter_pool, "_SMALLEST_PART", 1)


@pytest.fixture(scope="module")
def pool():
    with CutterPool(2, SPACE, CHUNKING, sentences) as pool:
        yield pool


def chunker(pool: CutterPool | None = None) -> Chunker:
    if pool is None:
        return Chunker(SPACE, CHUNKING, COUNTER)
    return SharedChunker(SPACE, CHUNKING, COUNTER, pool)


def stored(documents, *, function=None, pool=None):
    """What becomes of a stream: the rows of each window, and the verdicts."""
    cut = windows(iter(documents), SETTINGS, function=function, pool=pool)
    return [prepare(window, {}, chunker(pool), job_id=1) for window in cut]


TEXT = TEXTS | st.sampled_from(["raise it. now", "One. Two. " * 30, "\ud800", "x" * 1_500, "no\0"])
PIECE = TEXT | st.builds(Chunk, TEXT, metadata=st.just({"n": 1})) | st.just(7)
DOCUMENTS = st.lists(
    st.builds(
        Document,
        st.sampled_from(["a", "b", "c", "d", "", 7]),
        TEXT | TEXT.map(Text) | st.just(7),
        st.sampled_from([{}, {"lang": "en"}, {"bad": object()}]),
        mode=st.sampled_from([None, "markdown", "text", "other"]),
    )
    | st.builds(Document, st.sampled_from("abcd"), chunks=st.lists(PIECE, max_size=4))
    | st.builds(Rejection, st.just("r"), st.just("UNREADABLE"), st.just("it is broken"))
    | st.just("no document"),
    max_size=30,
)


@given(DOCUMENTS, st.sampled_from([None, sentences]))
def test_two_processes_make_the_rows_and_verdicts_of_one(pool, documents, function):
    alone = stored(documents, function=function)

    assert alone == stored(documents, function=function, pool=pool)


def test_what_is_sent_is_cut_by_the_processes(pool, monkeypatch):
    expected = chunker().cuts(["One. Two. " * 30] * 9, ["text"] * 9)
    monkeypatch.setattr(Chunker, "cuts", None)

    assert expected == chunker(pool).cuts(["One. Two. " * 30] * 9, ["text"] * 9)


def test_a_stream_that_raises_gives_what_was_read_of_it(pool):
    def broken():
        for n in range(10):
            yield Document(f"d{n}", f"One {n}. Two.")
        raise LookupError

    cut = windows(broken(), SETTINGS, function=sentences, pool=pool)
    taken = [[*next(cut).accepted], [*next(cut).accepted]]
    with pytest.raises(LookupError):
        next(cut)
    assert [[f"d{n}" for n in range(7)], ["d7", "d8", "d9"]] == taken


def children() -> list[psutil.Process]:
    """Those that cut: other tests of this process may have left some that do not."""
    found = []
    for each in psutil.Process().children():
        with suppress(psutil.Error):
            if any("cutter_process" in word for word in each.cmdline()):
                found.append(each)
    return found


def test_what_a_process_had_that_was_killed_is_cut_by_another(pool, tmp_path):
    documents = [Document(f"d{n}", f"One {n}. Two.") for n in range(40)]
    documents.insert(20, Document("deadly", f"die once {tmp_path / 'done'}"))
    before = set(children())

    cut = stored(documents, function=sentences, pool=pool)
    assert 1 == len(before - set(children()))
    assert 2 == len(children())
    assert stored(documents, function=sentences) == cut


def test_a_process_that_was_killed_while_it_was_idle_is_replaced(pool):
    texts = [f"One {n}. Two. " * 9 for n in range(40)]
    modes = ["text"] * len(texts)
    for process in children():
        process.kill()
        process.wait()

    assert chunker().cuts(texts, modes) == chunker(pool).cuts(texts, modes)


def test_texts_that_kill_every_process_end_the_call_and_the_processes():
    before = set(children())
    documents = [Document("a", "die now"), Document("b", "One.")]
    with (
        CutterPool(2, SPACE, CHUNKING, sentences) as pool,
        pytest.raises(EmbedfleetError, match="ended with status -9, and so did 2 others"),
    ):
        stored(documents, function=sentences, pool=pool)
    assert before == set(children())


def test_a_call_that_is_interrupted_ends_the_processes_and_goes_on_alone(monkeypatch):
    before = set(children())
    with CutterPool(2, SPACE, CHUNKING, None) as pool:
        with monkeypatch.context() as patch:
            patch.setattr(cutter_pool, "wait", interrupted)
            with pytest.raises(KeyboardInterrupt):
                chunker(pool).readings(["a b"])
        assert before == set(children())
        assert chunker().readings(["a b"]) == chunker(pool).readings(["a b"])


def interrupted(items):
    raise KeyboardInterrupt


def local() -> Callable[[str], list[str]]:
    return lambda text: [text]


def of_main(text):
    return [text]


of_main.__module__ = "__main__"
of_main.__qualname__ = "of_main"


@pytest.mark.parametrize("function", [local(), of_main])
def test_a_function_that_no_other_process_can_import_is_refused(function, monkeypatch):
    monkeypatch.setattr("__main__.of_main", of_main, raising=False)
    before = set(children())

    with (
        pytest.raises(UsageError, match="processes=2 needs a chunk function that other processes"),
        CutterPool(2, SPACE, CHUNKING, function),
    ):
        pass
    assert before == set(children())


def test_a_process_that_dies_at_its_start_says_nothing_of_the_function(monkeypatch):
    """It may have had no memory left, or been ended by somebody."""
    monkeypatch.setattr(cutter_pool, "_PROGRAM", "import os; os.kill(os.getpid(), 9)")
    pool = CutterPool(1, SPACE, CHUNKING, sentences)

    with pytest.raises(EmbedfleetError, match="cannot start: it ended with status -9") as raised:
        pool.__enter__()
    assert not isinstance(raised.value, UsageError)


def test_a_process_says_why_it_cannot_start():
    broken = CutterPool(1, SPACE, CHUNKING, None)
    broken._setup = pickle.dumps("no setup")

    with pytest.raises(EmbedfleetError, match="cannot start: AttributeError"), broken:
        pass
