"""Rows with vectors: what people and programs write, and what nobody should."""

import base64
import io
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedfleet_producer.embedded_chunks import EmbeddedChunk
from embedfleet_producer.imports import Imports
from embedfleet_producer.readers import ReadOptions
from embedfleet_producer.readers.embedded_row import BadVector, EmbeddedRow, packed
from embedfleet_producer.readers.embedded_rows import EmbeddedRows
from embedfleet_producer.readers.formats import guarded, read_open
from embedfleet_schema.types import Document, Rejection, Space

SPACE = Space("fake", "4", 4, 256)
NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False)
# What JSON can say, and Python's own parser takes beside it.
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(
    [
        *("id", "ids", "document", "position", "text", "start", "end", "chunks", "sha256"),
        *("model", "space", "vector", "embedding", "values", "metadata", "key", "content"),
    ]
)


def read(text, suffix=".jsonl", options=None):
    stream = io.BufferedReader(io.BytesIO(text.encode("utf-8", "surrogatepass")))
    rows = EmbeddedRows("file", options or ReadOptions(), "/file")
    return list(guarded("file", read_open(suffix, stream, 1_000_000, rows)))


def documents(verdicts, space=SPACE):
    return list(Imports(verdicts, space, vouched=True).documents())


@given(st.lists(NUMBERS, min_size=1))
def test_a_vector_is_the_same_as_numbers_as_text_and_as_bytes(numbers):
    wanted = np.asarray(numbers, dtype=np.float32)
    written = f"[{','.join(map(str, wanted))}]"
    for value in (numbers, wanted.tobytes(), written, json.dumps(numbers)):
        found = np.frombuffer(base64.b64decode(packed(value)), dtype=np.float32)
        np.testing.assert_array_equal(wanted, found)


@given(VALUES)
def test_what_is_no_vector_is_refused_in_words(value):
    try:
        found = EmbeddedRow("k", vector=packed(value)).numbers
    except BadVector:
        return
    assert np.float32 == found.dtype
    assert 1 == found.ndim
    assert isinstance(value, list | str)


@pytest.mark.parametrize("text", ["[1", "1,2", "[1,,2]", "[" * 100_000, "[1e999", "{}", "nan"])
def test_text_that_is_no_vector_is_refused(text):
    with pytest.raises(BadVector):
        packed(text)


@pytest.mark.parametrize("text", ["[1e999]", "[NaN]", "[Infinity]", "[1e39]"])
def test_numbers_that_float32_lacks_are_not_finite(text):
    found = EmbeddedRow("k", vector=packed(text)).numbers
    assert not math.isfinite(found[0])


@given(st.lists(st.dictionaries(NAMES, VALUES), max_size=4))
def test_any_row_is_a_document_or_a_rejection(rows):
    text = "".join(json.dumps(row) + "\n" for row in rows)
    for verdict in documents(read(text)):
        assert isinstance(verdict, Document | Rejection)
        if isinstance(verdict, Document):
            assert all(isinstance(chunk, EmbeddedChunk) for chunk in verdict.chunks)
            assert all((4,) == chunk.vector.shape for chunk in verdict.chunks)
            assert all(chunk.content.strip() for chunk in verdict.chunks)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_to_their_end(content):
    for suffix in (".jsonl", ".csv", ".json"):
        stream = io.BufferedReader(io.BytesIO(content))
        rows = EmbeddedRows("file", ReadOptions(), "/file")
        found = list(guarded("file", read_open(suffix, stream, 1_000, rows)))
        assert all(isinstance(each, EmbeddedRow | Rejection) for each in found)


UNIT = [1, 0, 0, 0]


@pytest.mark.parametrize(
    ("row", "key", "text", "metadata"),
    [
        (
            {"ids": "a", "documents": "t", "embeddings": UNIT, "metadatas": {"x": 1}},
            "a",
            "t",
            {"x": 1},
        ),
        ({"id": "a", "document": "t", "embedding": UNIT, "uris": None}, "a", "t", {}),
        ({"id": 7, "values": UNIT, "metadata": {"text": "t", "x": 1}}, "7", "t", {"x": 1}),
        ({"id": "a", "values": UNIT, "metadata": '{"page_content": "t"}'}, "a", "t", {}),
        (
            {
                "id": "a",
                "values": UNIT,
                "metadata": {"text": "t"},
                "sparse_values": {"indices": [1]},
            },
            *("a", "t", {}),
        ),
        ({"_id": "a", "text": "t", "vector": "[1,0,0,0]", "lang": "en"}, "a", "t", {"lang": "en"}),
        ({"key": "a", "content": "t", "embedding": UNIT, "metadata": None}, "a", "t", {}),
        (
            {"document": "a", "position": 0, "text": "t", "metadata": {"x": {}}, "vector": UNIT},
            *("a", "t", {"x": {}}),
        ),
    ],
)
def test_columns_of_many_names_are_key_text_vector_and_metadata(row, key, text, metadata):
    (document,) = documents(read(json.dumps(row)))
    (chunk,) = document.chunks
    assert (key, text, metadata) == (document.key, chunk.content, chunk.metadata)
    np.testing.assert_array_equal(UNIT, chunk.vector)


def test_columns_can_be_named():
    row = {"slug": "a", "passage": "t", "embedding": UNIT, "metadata": {"text": "no"}}
    options = ReadOptions(key_column="slug", text_column="passage", key_prefix="p/", source="s")
    (document,) = documents(read(json.dumps(row), options=options))
    assert ("p/a", "t", "s") == (document.key, document.chunks[0].content, document.source)
    inner = {"slug": "a", "embedding": UNIT, "metadata": {"passage": "t"}}
    (document,) = documents(read(json.dumps(inner), options=options))
    assert "t" == document.chunks[0].content


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"text": "t", "embedding": UNIT}, "MISSING_KEY"),
        ({"id": "a", "text": "t"}, "MISSING_VECTOR"),
        ({"id": "a", "embedding": UNIT}, "MISSING_TEXT"),
        ({"id": "a", "embedding": UNIT, "text": " "}, "MISSING_TEXT"),
        ({"id": "a", "embedding": UNIT, "metadata": {"x": "t"}}, "MISSING_TEXT"),
        ({"id": None, "embedding": UNIT, "text": "t"}, "BAD_KEY"),
        ({"id": ["a"], "embedding": UNIT, "text": "t"}, "BAD_KEY"),
        ({"id": "a", "embedding": UNIT, "text": "t", "metadata": "no"}, "BAD_METADATA"),
        ({"id": "a", "embedding": UNIT, "text": "t", "metadata": [1]}, "BAD_METADATA"),
        ({"id": "a", "embedding": UNIT, "text": "t\0"}, "NUL_BYTE"),
        ({"id": "a", "embedding": UNIT, "text": "\u200b"}, "MISSING_TEXT"),
        ({"id": "a", "embedding": [0.5] * 16_001, "text": "t"}, "BAD_VECTOR"),
        (
            {"document": "a", "position": 0, "text": "t", "vector": UNIT, "start": 5, "end": 4},
            "BAD_OFFSETS",
        ),
    ],
)
def test_what_a_row_lacks_has_a_code(row, code):
    (refused,) = documents(read(json.dumps(row)))
    assert code == refused.code


def test_a_lone_surrogate_and_a_name_that_comes_twice_are_no_json():
    lines = ['{"id": "a", "text": "\\ud800", "embedding": [1,0,0,0]}', '{"id": "a", "id": "b"}']
    for line in lines:
        (refused,) = read(line)
        assert "BAD_JSON" == refused.code


def test_a_document_that_would_not_fit_into_memory_is_refused(monkeypatch):
    monkeypatch.setattr("embedfleet_producer.imports.MOST_BYTES", 40)
    row = {"document": "a", "position": 0, "text": "text", "vector": UNIT}
    text = "".join(json.dumps(row | {"position": n}) + "\n" for n in range(3))
    (refused,) = documents(read(text))
    assert ("a", "TOO_LONG") == (refused.key, refused.code)


def test_rows_of_a_document_around_a_broken_one_are_not_a_whole_document():
    row = {"document": "a", "position": 0, "text": "text", "vector": UNIT}
    found = documents(read(f"{json.dumps(row)}\nbroken\n{json.dumps(row)}\n"))
    assert ["BAD_JSON", "MISSING_CHUNKS"] == [each.code for each in found]
