"""Standard input: rows or one text."""

import io
import os
import threading

import pytest

from embedfleet_producer.readers import read_paths
from embedfleet_schema.errors import InputMissing
from embedfleet_schema.types import Document

MAX_BYTES = 1_000


def read(data, *more):
    return list(read_paths(["-", *more], stdin=io.BytesIO(data), max_bytes=MAX_BYTES))


def test_json_lines_are_rows():
    found = read(b'\n{"id":"a","text":"one"}\nnot json\n{"text":"two"}\n')
    assert ["a", "stdin#3", "stdin#4"] == [verdict.key for verdict in found]
    assert "BAD_JSON" == found[1].code


@pytest.mark.parametrize(
    "text",
    ["plain text\nof lines", '{"title": "no text field"}', "[1]\n", '{"text": "broken'],
)
def test_anything_else_is_one_document(text):
    assert [Document("stdin", text, {"path": "stdin", "type": "txt"})] == read(text.encode())


def test_utf_16_is_read_and_its_mark_is_not_text():
    assert ["é\n日"] == [document.text for document in read("é\n日".encode("utf-16"))]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "EMPTY"),
        (b" \n\n", "EMPTY"),
        (b"caf\xe9", "BAD_ENCODING"),
        (b"fine\ncaf\xe9", "BAD_ENCODING"),
        (b"a\0b", "NOT_TEXT"),
        (b"x" * 1_001, "TOO_LARGE"),
        (b"x\n" * 501, "TOO_LARGE"),
        (b"\n" + "é".encode() * 501, "TOO_LARGE"),
    ],
)
def test_what_cannot_be_taken_is_rejected(data, code):
    assert [("stdin", code)] == [(verdict.key, verdict.code) for verdict in read(data)]


def test_it_can_be_read_among_files(tmp_path):
    (tmp_path / "a.txt").write_text("file")
    assert ["stdin", "a.txt"] == [verdict.key for verdict in read(b"text", tmp_path / "a.txt")]


def test_the_stream_of_the_caller_stays_open():
    stream = io.BytesIO(b'{"text":"a"}\n')
    assert 1 == len(list(read_paths(["-"], stdin=stream, max_bytes=MAX_BYTES)))
    assert not stream.closed


@pytest.mark.parametrize("buffering", [-1, 0])
def test_a_pipe_that_delivers_in_drops_is_read_whole(buffering):
    source, sink = os.pipe()
    data = "\ufeffdrop by drop\n".encode() * 20

    def drip():
        with os.fdopen(sink, "wb", 0) as pipe:
            for place in range(len(data)):
                pipe.write(data[place : place + 1])

    writer = threading.Thread(target=drip)
    writer.start()
    with os.fdopen(source, "rb", buffering) as stream:
        [document] = read_paths(["-"], stdin=stream, max_bytes=MAX_BYTES)
    writer.join()
    assert data.decode().removeprefix("\ufeff") == document.text


def test_the_own_standard_input_is_read_if_none_is_given(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"typed")))
    assert ["typed"] == [d.text for d in read_paths(["-"], max_bytes=MAX_BYTES)]


def test_a_process_without_standard_input_is_told_so(monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(InputMissing, match="standard input is closed"):
        read_paths(["-"], max_bytes=MAX_BYTES)
