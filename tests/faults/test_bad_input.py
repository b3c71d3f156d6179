"""Whatever a caller hands over gets a verdict with a code, and its neighbours are embedded."""

import os
import socket
import string
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import embedfleet as ef
from embedfleet.fleet import Fleet
from embedfleet_producer.printable import printable
from embedfleet_producer.readers import read_paths
from embedfleet_schema.errors import BadFilter, BadName
from embedfleet_schema.types import Chunking, Rejection
from plugins.fleets import ask, drain
from plugins.worker_processes import eventually

CODES = {
    *("NOT_A_DOCUMENT", "BAD_KEY", "KEY_TOO_LONG", "DUPLICATE_KEY", "BAD_MODE", "BAD_METADATA"),
    *("NOT_TEXT", "EMPTY", "NUL_BYTE", "BAD_UNICODE", "TOO_LONG", "BAD_OFFSETS"),
}
INJECTION = "'; DROP TABLE embedfleet._documents_1 CASCADE; --"


class Unprintable:
    def __repr__(self):
        raise RuntimeError("no")


def nested(depth):
    value = {}
    for _ in range(depth):
        value = {"a": value}
    return value


def nested_list():
    value = []
    for _ in range(100_000):
        value = [value]
    return value


BAD = [
    ("no document", "NOT_A_DOCUMENT"),
    (None, "NOT_A_DOCUMENT"),
    (Unprintable(), "NOT_A_DOCUMENT"),
    (ef.Document("", "text"), "BAD_KEY"),
    (ef.Document(7, "text"), "BAD_KEY"),
    (ef.Document(nested_list(), "text"), "BAD_KEY"),
    (ef.Document(b"bytes", "text"), "BAD_KEY"),
    (ef.Document("k" * 513, "text"), "KEY_TOO_LONG"),
    (ef.Document("я" * 257, "text"), "KEY_TOO_LONG"),
    (ef.Document("key\0", "text"), "NUL_BYTE"),
    (ef.Document("key\ud800", "text"), "BAD_UNICODE"),
    (ef.Document("no text"), "NOT_TEXT"),
    (ef.Document("bytes", b"bytes"), "NOT_TEXT"),
    (ef.Document("both", "text", chunks=["text"]), "NOT_TEXT"),
    (ef.Document("empty", ""), "EMPTY"),
    (ef.Document("white", " \n\t\u00a0\u3000"), "EMPTY"),
    (ef.Document("zero width", "\u200b \u200d\ufeff\u2060\u00ad\u200e"), "EMPTY"),
    (ef.Document("invisible", "\u2063\u034f\u180e\ufe0f\U000e0041"), "EMPTY"),
    (ef.Document("NUL", "before\0after"), "NUL_BYTE"),
    (ef.Document("surrogate", "half \ud83d of a pair"), "BAD_UNICODE"),
    (ef.Document("latin-1", b"caf\xe9".decode(errors="surrogateescape")), "BAD_UNICODE"),
    (ef.Document("100 MB", "x" * 100_000_000), "TOO_LONG"),
    (ef.Document("100 MB of chunks", chunks=["x" * 1_000_000] * 100), "TOO_LONG"),
    (ef.Document("mode", "text", mode="html"), "BAD_MODE"),
    (ef.Document("list as mode", "text " * 2_000, mode=[]), "BAD_MODE"),
    (ef.Document("string of chunks", chunks="text"), "NOT_TEXT"),
    (ef.Document("number of chunks", chunks=5), "NOT_TEXT"),
    (ef.Document("stream of chunks", chunks=iter(["text"])), "NOT_TEXT"),
    (ef.Document("set of chunks", chunks={"text"}), "NOT_TEXT"),
    (ef.Document("no chunks", chunks=[]), "EMPTY"),
    (ef.Document("empty chunks", chunks=["\u200b", " "]), "EMPTY"),
    (ef.Document("number as chunk", chunks=[5]), "NOT_TEXT"),
    (ef.Document("far offset", chunks=[ef.Chunk("text", 0, 2**31)]), "BAD_OFFSETS"),
    (ef.Document("negative offset", chunks=[ef.Chunk("text", -1)]), "BAD_OFFSETS"),
    (ef.Document("broken offset", chunks=[ef.Chunk("text", 0, 2.5)]), "BAD_OFFSETS"),
    (ef.Document("text as offset", chunks=[ef.Chunk("text", "0", "4")]), "BAD_OFFSETS"),
    (ef.Document("offsets turned round", chunks=[ef.Chunk("text", 4, 0)]), "BAD_OFFSETS"),
    (ef.Document("list as metadata", "text", ["list"]), "BAD_METADATA"),
    (ef.Document("no metadata", "text", None), "BAD_METADATA"),
    (ef.Document("NaN", "text", {"x": float("nan")}), "BAD_METADATA"),
    (ef.Document("deep", "text", nested(33)), "BAD_METADATA"),
    (ef.Document("large", "text", {"x": "y" * 64_001}), "BAD_METADATA"),
    (ef.Document("NUL in metadata", "text", {"x\0": 1}), "BAD_METADATA"),
    (ef.Document("surrogate in metadata", "text", {"x": "\ud800"}), "BAD_METADATA"),
    (ef.Document("huge number", "text", {"x": 10**5_000}), "BAD_METADATA"),
    (ef.Document("strange name", "text", {Unprintable(): 1}), "BAD_METADATA"),
    (ef.Document("a set", "text", {"x": {1}}), "BAD_METADATA"),
    (ef.Document("bad chunk", chunks=[ef.Chunk("text", metadata={"x": 1j})]), "BAD_METADATA"),
    (ef.Document("good 0", "another text"), "DUPLICATE_KEY"),
]
# Each is what a reader takes for one character.
GRAPHEMES = ["👨‍👩‍👧‍👦", "🇩🇪", "👍🏽", "❤️‍🔥", "e\u0301", "Z̯̯̯", "각", "1️⃣", "नि", "שָׁ", "مَّ"]


def contents(fleet, docs, key):
    statement = f"SELECT content FROM embedfleet.{docs.name} WHERE document = %s ORDER BY position"
    return [content for (content,) in ask(fleet, statement, key)]


def test_every_bad_document_gets_its_code_and_its_neighbours_are_embedded(fleet, docs, worker):
    stream = [ef.Document("good 0", "the first text")]
    for number, (bad, _) in enumerate(BAD, 1):
        stream += [bad, ef.Document(f"good {number}", f"good text number {number}")]
    done = docs.enqueue(stream).enqueued
    found = {verdict.key: verdict.code for verdict in done.rejections}
    assert {printable(getattr(bad, "key", bad)): code for bad, code in BAD} == found
    assert (len(BAD) + 1, len(BAD)) == (done.documents, done.rejected)
    assert {"done"} == set(drain(worker()))
    assert len(BAD) + 1 == docs.audit().stored
    assert found == {failure.document: failure.code for failure in docs.failures()}


def test_a_rejected_document_is_listed_until_it_is_accepted(docs, worker):
    docs.enqueue([ef.Document("a", "\0")])
    assert ["NUL_BYTE"] == [failure.code for failure in docs.failures()]
    docs.enqueue([ef.Document("a", "a text")])
    assert [] == docs.failures()


def test_a_chunk_function_that_misbehaves_fails_its_document_alone(docs, worker):
    def cut(text):
        match text:
            case "raise":
                raise ValueError(text)
            case "number":
                return 5
            case "offsets":
                return [ef.Chunk("offsets", 0, 10**12, metadata=None)]
            case "surrogate":
                return ["\ud800"]
        return text.split(".")

    bad = {"raise": "CHUNKER_FAILED", "number": "CHUNKER_FAILED", "offsets": "BAD_METADATA"}
    bad |= {"surrogate": "BAD_UNICODE"}
    done = docs.enqueue(
        [*(ef.Document(key, key) for key in bad), ef.Document("good", "one.two")], chunk=cut
    ).enqueued
    assert bad == {verdict.key: verdict.code for verdict in done.rejections}
    drain(worker())
    assert 2 == docs.audit().stored


def test_a_million_characters_without_a_space_are_stored_whole(fleet, docs, worker):
    letters = (string.ascii_letters * 20_000)[:1_000_000]
    docs.enqueue([ef.Document("long", letters), ef.Document("short", "a text")])
    drain(worker(batch_tokens_cpu=8_192))
    assert letters == "".join(contents(fleet, docs, "long"))
    assert ["a text"] == contents(fleet, docs, "short")


def test_no_chunk_begins_or_ends_inside_a_character_that_a_reader_sees(fleet, worker):
    docs = fleet.collection("docs", model="fake/16", chunking=Chunking(size=16, overlap=0))
    docs.enqueue(ef.Document(f"d{n}", each * 500) for n, each in enumerate(GRAPHEMES))
    drain(worker())
    for n, grapheme in enumerate(GRAPHEMES):
        chunks = contents(fleet, docs, f"d{n}")
        assert len(chunks) > 1
        assert "" == "".join(chunk.replace(grapheme, "") for chunk in chunks)


def test_sql_in_names_keys_texts_and_filters_stays_text(fleet, docs, worker):
    with pytest.raises(BadName):
        fleet.collection(INJECTION, model="fake/16")
    for name in ('docs"; --', "docs; DROP SCHEMA embedfleet", "a b", "_vectors_1_1", "batch", ""):
        with pytest.raises(BadName):
            fleet.collection(name, model="fake/16")
    docs.enqueue([ef.Document(INJECTION, INJECTION, {INJECTION: INJECTION})])
    drain(worker())
    (hit,) = docs.search(INJECTION, where={INJECTION: INJECTION})
    assert (INJECTION, INJECTION) == (hit.document, hit.content)
    assert [] == docs.search(INJECTION, where={"lang": INJECTION})
    for where in ({"x": "\0"}, {"x": "\ud800"}, {"x": float("nan")}, {"x": {1}}):
        with pytest.raises(BadFilter):
            docs.search("text", where=where)
    assert [] == docs.delete([f"{INJECTION}x", "\0", "\ud800"])
    assert [INJECTION] == docs.delete([INJECTION])


def test_what_is_no_file_of_text_is_rejected_and_its_neighbours_are_embedded(
    fleet, docs, worker, tmp_path
):
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "good.txt").write_text("a good text")
    (folder / "deep/good.md").write_text("# Good\n\nanother one")
    (folder / "utf-16.txt").write_text("ein Text", encoding="utf-16")
    (folder / "binary.txt").write_bytes(os.urandom(64) + b"\0" * 64)
    (folder / "mixed.txt").write_bytes("naïve".encode() + "naïve".encode("latin-1"))
    (folder / "empty.txt").write_bytes(b"")
    (folder / "blank.txt").write_text("\u200b\u200b\n")
    (folder / "program.exe").write_bytes(b"MZ")
    os.mkfifo(folder / "pipe.txt")
    (folder / "device.txt").symlink_to("/dev/zero")
    (folder / "loop.txt").symlink_to(folder / "loop.txt")
    (folder / "deep/up").symlink_to(folder)
    (folder / "dangling.txt").symlink_to(tmp_path / "nowhere")
    long_name = "/".join(["long" * 40] * 4) + ".txt"
    (folder / long_name).parent.mkdir(parents=True)
    (folder / long_name).write_text("a text with a long name")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(folder / "socket.txt"))
        done = docs.enqueue(read_paths([folder / "deep" / ".." / "."])).enqueued
    assert {
        "binary.txt": "NOT_TEXT",
        "mixed.txt": "BAD_ENCODING",
        "empty.txt": "EMPTY",
        "blank.txt": "EMPTY",
        "*.exe": "UNKNOWN_TYPE",
        "pipe.txt": "NOT_A_FILE",
        "device.txt": "LINK_NOT_FOLLOWED",
        "socket.txt": "NOT_A_FILE",
        "loop.txt": "UNREADABLE",
        "dangling.txt": "UNREADABLE",
        long_name[:512]: "KEY_TOO_LONG",
    } == {verdict.key: verdict.code for verdict in done.rejections}
    assert 3 == done.documents
    drain(worker())
    keys = ask(fleet, "SELECT document FROM embedfleet.docs ORDER BY 1")
    assert [("deep/good.md",), ("good.txt",), ("utf-16.txt",)] == keys
    assert done.rejected == len(docs.failures())


CHUNK_CODES = {"TOO_LONG", "NOT_TEXT", "NUL_BYTE", "BAD_UNICODE", "BAD_METADATA", "BAD_OFFSETS"}
UNIQUE = "a key of its own"
odd_text = st.text(st.characters(), max_size=40) | st.sampled_from(
    ["", " ", "\0", "\ud800", "\u200b", "word " * 700, "x" * 9_000, *GRAPHEMES, INJECTION]
)
anything = st.none() | st.booleans() | st.integers() | st.floats() | st.binary(max_size=5)
odd_values = st.recursive(
    anything | odd_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(odd_text, inner, max_size=3),
    max_leaves=8,
)
odd_metadata = st.dictionaries(odd_text, odd_values, max_size=3) | anything
odd_offsets = st.none() | st.integers(-5, 50) | st.integers() | anything
odd_chunks = st.builds(
    ef.Chunk, odd_text | anything, odd_offsets, odd_offsets, st.just({}) | odd_metadata
)
good_documents = st.builds(ef.Document, st.just(UNIQUE), st.text("ab \n", min_size=1))
odd_documents = st.builds(
    ef.Document,
    st.just(UNIQUE) | odd_text | anything,
    odd_text | odd_text.map(lambda text: text * 20) | anything,
    st.just({}) | odd_metadata,
    st.none() | st.none() | st.lists(odd_text | odd_chunks, max_size=4) | anything | odd_text,
    st.sampled_from([None, "text", "markdown"]) | anything,
)
ready_documents = st.builds(
    ef.Document,
    st.just(UNIQUE),
    chunks=st.lists(odd_text | odd_chunks, min_size=1, max_size=3),
)
PER_CALL = 25
streams = st.lists(
    good_documents | odd_documents | odd_documents | ready_documents | anything,
    min_size=PER_CALL,
    max_size=PER_CALL,
)


def check_stored(fleet: Fleet, docs, stream, rejections: list[Rejection]):
    """Each document with a key of its own was either rejected with a code, or stored as it is."""
    assert {verdict.code for verdict in rejections} <= CODES
    rejected = {verdict.key for verdict in rejections}
    given = [item for item in stream if isinstance(item, ef.Document) and is_key(item.key)]
    stored = {}
    for key, start, end, content in ask(
        fleet,
        "SELECT d.key, start_offset, end_offset, content FROM embedfleet._documents_1 AS d"
        " JOIN embedfleet._chunks_1 AS c ON c.document_id = d.id AND c.version = d.version"
        " JOIN embedfleet._texts_1 AS t ON t.id = c.text_id"
        " WHERE d.key = ANY (%s) ORDER BY d.key, position",
        [item.key for item in given],
    ):
        stored.setdefault(key, []).append((start, end, content))
    for item in given:
        assert (item.key in rejected) != (item.key in stored)
        for start, end, content in stored.get(item.key, ()):
            if item.text is not None:
                assert item.text[start:end] == content


def is_key(key):
    """Whether it is one of the keys that no other document of the run has."""
    return isinstance(key, str) and key.startswith("unique ")


def with_keys_of_their_own(stream, call):
    return [
        replace(item, key=f"unique {call}/{n}")
        if isinstance(item, ef.Document) and item.key == UNIQUE
        else item
        for n, item in enumerate(stream)
    ]


def workers_ever(fleet):
    """Each worker that signed on to the fleet, and whether it left."""
    return ask(fleet, "SELECT id, pid, started_at, stopped_at FROM embedfleet.worker")


def batches(fleet):
    """How many there are by state, with what they were charged."""
    return ask(
        fleet, "SELECT state, count(*), sum(errors), sum(crashes) FROM embedfleet.batch GROUP BY 1"
    )


def run(fleet, worker_process, report, documents):
    docs = fleet.collection("docs", model="fake/16", chunking=Chunking(size=200, overlap=20))
    process = worker_process(slots=2)
    eventually(lambda: workers_ever(fleet))
    (worker,) = workers_ever(fleet)
    assert (process.pid, None) == (worker[1], worker[3])
    seen = {"calls": 0, "documents": 0, "rejected": 0}

    @settings(
        max_examples=documents // PER_CALL,
        database=None,
        derandomize=documents < 1_000,
        phases=[Phase.generate],
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(streams)
    def enqueue(stream):
        seen["calls"] += 1
        # A call that begins with something else is refused as a whole.
        first = ef.Document("first", "A document.")
        stream = [first, *with_keys_of_their_own(stream, seen["calls"])]
        done = docs.enqueue(stream).enqueued
        assert len(stream) == done.documents + done.unchanged + done.rejected
        assert done.rejected == len(done.rejections)
        check_stored(fleet, docs, stream, done.rejections)
        seen["documents"] += len(stream)
        seen["rejected"] += done.rejected

    enqueue()
    assert seen["documents"] >= documents
    eventually(lambda: {"done"} == {state for state, *_ in batches(fleet)}, timeout_s=600)
    ((_, count, errors, crashes),) = batches(fleet)
    assert (0, 0) == (errors, crashes)
    assert [worker] == workers_ever(fleet)
    assert process.process.poll() is None
    found = docs.audit()
    assert (True, 0) == (found.clean, found.waiting)
    # Ready-made chunks that cannot be stored, or that the model does not take, fail by themselves.
    failed = {each.code for each in docs.failures(limit=documents) if each.position is not None}
    assert failed <= CHUNK_CODES
    assert {failure.code for failure in docs.failures(limit=documents)} <= CODES
    report(
        documents_of_any_kind=seen["documents"], of_them_rejected=seen["rejected"], batches=count
    )


def test_three_hundred_documents_of_any_kind_are_stored_or_rejected_and_end_no_worker(
    fleet, worker_process, report
):
    run(fleet, worker_process, report, 300)


@pytest.mark.nightly
@pytest.mark.timeout(1_800)
def test_ten_thousand_documents_of_any_kind_are_stored_or_rejected_and_end_no_worker(
    fleet, worker_process, report
):
    run(fleet, worker_process, report, 10_000)
