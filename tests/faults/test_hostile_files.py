"""Files made to be dear to read: what they take is measured, and each is a verdict by itself."""

import gzip
import json
import os
import signal
import subprocess
import sys
import threading
import zlib
from multiprocessing import get_context

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedfleet_producer.readers import ReaderLimits, read_paths
from embedfleet_schema.types import Document
from plugins.office_files import docx_of_pieces
from plugins.reader_costs import cost_of_reading

MEGABYTE = 1_000_000
MAX_BYTES = 4 * MEGABYTE
MEMORY = 128 * MEGABYTE
# An interpreter with its libraries loaded, before it has read a byte.
IDLE = 120 * MEGABYTE
LIMITS = {"reader_memory_bytes": MEMORY, "reader_seconds": 1}


def repeated_text_parquet(path):
    """500 bytes that stand for 300 MB: one text, again and again."""
    pq.write_table(pa.table({"text": ["x" * MEGABYTE] * 300}), path, compression="zstd")


def repeated_rows_parquet(path):
    rows = pa.array(["x"]).take(pa.array([0] * 2_000_000, type=pa.int32()))
    pq.write_table(pa.table({"text": rows}), path, compression="zstd", row_group_size=2_000_000)


def pdf_of(content):
    packed = zlib.compress(content, 9)
    bodies = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 4 0 R /Resources 6 0 R >>",
        b"<< /Filter /FlateDecode /Length %d >>\nstream\n%s\nendstream" % (len(packed), packed),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        b"<< /Font << /F1 5 0 R >> >>",
    ]
    objects = (b"%d 0 obj\n%s\nendobj\n" % pair for pair in enumerate(bodies, 1))
    return b"%PDF-1.4\n" + b"".join(objects) + b"trailer\n<< /Size 7 /Root 1 0 R >>\n%%EOF\n"


def gzip_of(path, piece, count):
    with gzip.open(path, "wb") as file:
        for _ in range(count):
            file.write(piece)


CONFINED = {
    "text.parquet": repeated_text_parquet,
    "rows.parquet": repeated_rows_parquet,
    "nested.html": lambda path: path.write_text("<b>" * MEGABYTE),
    "attributes.html": lambda path: path.write_text(
        "<p " + " ".join(f"a{n}=1" for n in range(600_000)) + ">"
    ),
    "operators.pdf": lambda path: path.write_bytes(pdf_of(b"BT (x) Tj ET " * 2_000_000)),
    "text.pdf": lambda path: path.write_bytes(
        pdf_of(b"BT /F1 9 Tf (" + b"x" * 60 * MEGABYTE + b") Tj ET")
    ),
    "paragraphs.docx": lambda path: docx_of_pieces(
        path, b"<w:p><w:r><w:t>x</w:t></w:r></w:p>" * 1_000, 1_000
    ),
    "text.docx": lambda path: docx_of_pieces(path, b"<w:t>" + b"x" * MEGABYTE + b"</w:t>", 100),
    "deep.docx": lambda path: docx_of_pieces(path, b"<w:tbl>" * 10_000, 100),
    "values.ipynb": lambda path: path.write_text('{"cells":[' + "[]," * 1_300_000 + "[]]}"),
    "page.html.gz": lambda path: gzip_of(path, b"<p>" * MEGABYTE, 30),
}


@pytest.mark.parametrize("name", CONFINED)
def test_a_file_that_unfolds_in_its_reader_is_a_verdict_within_the_limit(tmp_path, name):
    CONFINED[name](tmp_path / name)
    cost = cost_of_reading(tmp_path / name, limits=LIMITS, max_bytes=MAX_BYTES)
    assert cost.codes
    assert cost.codes.keys() <= {"TOO_COSTLY", "TOO_LARGE", "UNREADABLE"}
    assert cost.beside <= IDLE + MEMORY
    assert cost.here <= IDLE + 4 * MAX_BYTES


VALUES = '{"text":"x","a":[' + "[]," * 1_300_000 + "[]]}"
ROW = b'{"text":"a"}\n'
STREAMED = {
    "values.jsonl": lambda path: path.write_text(VALUES + '\n{"text":"next"}\n'),
    "values.json": lambda path: path.write_text(VALUES),
    "array.json": lambda path: path.write_text("[" + VALUES + ',{"text":"next"}]'),
    "deep.json": lambda path: path.write_text("[" * 3 * MEGABYTE),
    "line.jsonl": lambda path: path.write_text(
        '{"text":"' + "x" * 60 * MEGABYTE + '"}\n{"text":"next"}\n'
    ),
    "endless.jsonl": lambda path: path.write_text('{"text":"' + "x" * 100 * MEGABYTE),
    "commas.csv": lambda path: path.write_text("text,b\n" + "," * 3 * MEGABYTE + "\n"),
    "quote.csv": lambda path: path.write_text('text,b\n"' + ("x" * 99 + "\n") * MEGABYTE),
    "cells.tsv": lambda path: path.write_text("text\tb\n" + '"x\n"\t' * 4 * MEGABYTE),
    "zeros.txt.gz": lambda path: gzip_of(path, b"x" * MEGABYTE, 200),
    "rows.jsonl.gz": lambda path: gzip_of(path, ROW * 10_000, 60),
    "long.md": lambda path: path.write_text("---\n" + "a: [" * 15_000 + "\n---\ntext"),
}


# Those of which the row that is too much has a next one.
GO_ON = ("line.jsonl", "values.jsonl", "array.json")


@pytest.mark.parametrize("name", STREAMED)
def test_a_file_that_unfolds_while_it_is_streamed_stays_within_a_few_times_the_limit(
    tmp_path, name
):
    STREAMED[name](tmp_path / name)
    cost = cost_of_reading(tmp_path / name, limits=LIMITS, max_bytes=MAX_BYTES)
    assert cost.codes or cost.notes
    assert cost.here <= IDLE + 12 * MAX_BYTES
    if name in GO_ON:
        assert 1 == cost.documents


LITTLE = ReaderLimits(reader_memory_bytes=8 * MEGABYTE)


@pytest.fixture
def folder(tmp_path):
    """Files that a process has to be started for, one of which it does not survive."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.html").write_text("<p>first")
    (folder / "b.html").write_text("<b>" * 300_000)
    (folder / "c.html").write_text("<p>last")
    return folder


def read_as_codes(folder):
    """Also what runs in processes of `multiprocessing`."""
    return [
        each.text if isinstance(each, Document) else each.code
        for each in read_paths([folder], limits=LITTLE)
    ]


EXPECTED = ["first", "TOO_COSTLY", "last"]


def children():
    return psutil.Process().children(recursive=True)


def test_a_file_that_takes_too_long_is_turned_down_and_the_next_is_read(folder):
    (folder / "b.html").unlink()
    docx_of_pieces(folder / "b.docx", b"<w:p><w:r><w:t>x</w:t></w:r></w:p>" * 1_000, 1_000)
    before = children()
    [_, rejection, _] = read_paths([folder], limits=ReaderLimits(reader_seconds=1))
    assert "more than 1 seconds" in rejection.reason
    assert "EMBEDFLEET_READER_SECONDS" in rejection.reason
    assert before == children()


def test_one_process_serves_many_files_and_nothing_of_it_is_left(tmp_path):
    for number in range(5):
        (tmp_path / f"{number}.html").write_text("<p>text")
    before = set(children())
    seen = set()
    for _ in read_paths([tmp_path]):
        seen |= set(children()) - before
    assert 1 == len(seen)
    assert before == set(children())


def test_a_stream_that_is_left_in_the_middle_leaves_no_process(folder):
    before = children()
    stream = read_paths([folder], limits=LITTLE)
    assert "first" == next(stream).text
    assert before != children()
    stream.close()
    assert before == children()


def test_a_thread_can_read(folder):
    found = []
    thread = threading.Thread(target=lambda: found.extend(read_as_codes(folder)))
    thread.start()
    thread.join()
    assert EXPECTED == found


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_a_daemonic_process_can_read(folder, method):
    # A pool's processes are daemons, which may start none with `multiprocessing`.
    with get_context(method).Pool(1) as pool:
        assert EXPECTED == pool.apply(read_as_codes, [folder])


def test_a_forked_copy_of_a_stream_leaves_the_reader_to_its_owner(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.html").write_text(f"<p>{name}")
    stream = read_paths([tmp_path])
    assert "a" == next(stream).text
    copy = get_context("fork").Process(target=stream.close)
    copy.start()
    copy.join()
    assert 0 == copy.exitcode
    assert ["b"] == [document.text for document in stream]


READING = """
import sys
from embedfleet_producer.readers import read_paths
for verdict in read_paths([sys.argv[1]]):
    print(verdict.key, flush=True)
    if "wait" in sys.argv:
        sys.stdin.read()
"""


def started_reading(folder, *words):
    """A process of its own group that has read the first file, and the process of its reader."""
    process = subprocess.Popen(
        [sys.executable, "-c", READING, str(folder), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert "a.html\n" == process.stdout.readline()
    [reader] = psutil.Process(process.pid).children()
    return process, reader


def test_ctrl_c_ends_the_reading_and_its_process(folder):
    (folder / "b.html").unlink()
    docx_of_pieces(folder / "b.docx", b"<w:p><w:r><w:t>x</w:t></w:r></w:p>" * 1_000, 1_500)
    process, reader = started_reading(folder)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate()
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert 1 == errors.count("Traceback")
    psutil.wait_procs([reader])
    assert not reader.is_running()


def test_a_reader_whose_producer_was_killed_ends_by_itself(tmp_path):
    (tmp_path / "a.html").write_text("<p>text")
    process, reader = started_reading(tmp_path, "wait")
    process.kill()
    process.communicate()
    psutil.wait_procs([reader])
    assert not reader.is_running()


def test_no_secret_of_the_producer_is_in_the_readers_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    (tmp_path / "a.html").write_text("<p>text")
    before = set(children())
    stream = read_paths([tmp_path])
    next(stream)
    [reader] = set(children()) - before
    assert "sk-secret" not in json.dumps(reader.environ())
    stream.close()
