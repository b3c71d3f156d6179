import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedfleet_producer.placeholders import PlaceholderChunk
from embedfleet_producer.printable import MAX_KEY_BYTES, printable
from embedfleet_producer.validation import Validated, validate
from embedfleet_schema.types import Chunk, Document, Mark, Rejection
from embedfleet_schema.visible_text import has_text

any_text = st.text(st.characters(), max_size=50)
json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
)


def verdict(document, max_bytes=1_000_000):
    return validate(document, max_bytes=max_bytes)


offsets = st.none() | st.integers(-2, 2**31) | st.just("0")


def is_good(found):
    return isinstance(found, Validated)


def is_visible(piece):
    return has_text(piece if isinstance(piece, str) else piece.content)


def nested(depth):
    value = {}
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ("a string", "NOT_A_DOCUMENT"),
        (Document("", "text"), "BAD_KEY"),
        (Document(7, "text"), "BAD_KEY"),
        (Document("k" * 513, "text"), "KEY_TOO_LONG"),
        (Document("k\0", "text"), "NUL_BYTE"),
        (Document("k\ud800", "text"), "BAD_UNICODE"),
        (Document("k"), "NOT_TEXT"),
        (Document("k", "text", chunks=["text"]), "NOT_TEXT"),
        (Document("k", b"bytes"), "NOT_TEXT"),
        (Document("k", ""), "EMPTY"),
        (Document("k", " \n\t"), "EMPTY"),
        (Document("k", "\u200b\ufeff \u2060"), "EMPTY"),
        (Document("k", chunks=[]), "EMPTY"),
        (Document("k", chunks=["\u200b", Chunk(" ")]), "EMPTY"),
        (Document("k", chunks=[5]), "NOT_TEXT"),
        (Document("k", chunks=[" ", "a\0b", 5]), "NUL_BYTE"),
        (Document("k", chunks=["a\0b"], marks=[Mark(0, {"page": 1})]), "NUL_BYTE"),
        (Document("k", "a\0b"), "NUL_BYTE"),
        (Document("k", "a\udfffb"), "BAD_UNICODE"),
        (Document("k", "x" * 1_000_001), "TOO_LONG"),
        (Document("k", "text", {"x": float("nan")}), "BAD_METADATA"),
        (Document("k", "text", {"x": {1, 2}}), "BAD_METADATA"),
        (Document("k", "text", {1: 2}), "BAD_METADATA"),
        (Document("k", "text", {"x": "\0"}), "BAD_METADATA"),
        (Document("k", "text", {"\0": 1}), "BAD_METADATA"),
        (Document("k", "text", {"x": "\ud800"}), "BAD_METADATA"),
        (Document("k", "text", {"x": "y" * 64_001}), "BAD_METADATA"),
        (Document("k", "text", nested(33)), "BAD_METADATA"),
        (Document("k", "text", ["list"]), "BAD_METADATA"),
        (Document("k", chunks=[Chunk("text", metadata={"x": float("inf")})]), "BAD_METADATA"),
        (Document("k", "text", marks="page"), "BAD_MARKS"),
        (Document("k", "text", marks=[{"page": 1}]), "BAD_MARKS"),
        (Document("k", "text", marks=[Mark(-1, {"page": 1})]), "BAD_MARKS"),
        (Document("k", "text", marks=[Mark(5, {"page": 1})]), "BAD_MARKS"),
        (Document("k", "text", marks=[Mark(0.5, {"page": 1})]), "BAD_MARKS"),
        (Document("k", "text", marks=[Mark("0", {"page": 1})]), "BAD_MARKS"),
        (Document("k", chunks=["text"], marks=[Mark(0, {"page": 1})]), "BAD_MARKS"),
        (Document("k", "text", marks=[Mark(0, None)]), "BAD_METADATA"),
        (Document("k", "text", marks=[Mark(0, {"x": "\0"})]), "BAD_METADATA"),
        (Document("k", "text", marks=[Mark(0, {"x": "\ud800"})]), "BAD_METADATA"),
        (Document("k", "text", marks=[Mark(0, {"x": float("nan")})]), "BAD_METADATA"),
        (
            Document("k", "text", marks=[Mark(0, {f"n{n}": "y" * 1_000}) for n in range(64)]),
            "BAD_METADATA",
        ),
    ],
)
def test_a_bad_document_gets_its_code(document, code):
    found = verdict(document)
    assert isinstance(found, Rejection)
    assert code == found.code


@pytest.mark.parametrize(
    "document",
    [
        Document("k" * MAX_KEY_BYTES, "text"),
        Document("ключ", "текст", {"x": [1, None, {"y": "\\u0000 written out"}]}),
        Document("k", "text", nested(31)),
        Document("k", chunks=["one", Chunk("two", metadata={"page": 2})]),
        Document("k", chunks=["text", " "]),
        Document("k", chunks=["text", 5]),
        Document("k", chunks=["text", "a\0b"]),
        Document("k", chunks=["text", Chunk("\ud800", "0", None, {1: 2})]),
        Document("k", "text", marks=[Mark(0, {"page": 1}), Mark(4, {"page": 2})]),
        Document("k", "text", marks=[Mark(0, {"same": "y" * 1_000}) for _ in range(64)]),
        Document("👩‍👩‍👧", "👩‍👩‍👧 e\u0301 שלום"),
    ],
)
def test_a_good_document_is_accepted(document):
    assert isinstance(verdict(document), Validated)


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError

    __repr__ = __str__


class OwnDict(dict):
    """Its items are read by code of the caller's, which fails."""

    def items(self):
        raise Unspeakable

    __iter__ = keys = items


class OwnMapping(Mapping):
    def __getitem__(self, name):
        raise Unspeakable

    def __iter__(self):
        return iter(["page"])

    def __len__(self):
        return 1


class Countless(OwnMapping):
    def __len__(self):
        raise Unspeakable


class OwnList(Sequence):
    def __getitem__(self, index):
        raise Unspeakable

    def __len__(self):
        return 1


@pytest.mark.parametrize("metadata", [OwnDict(page=1), OwnMapping(), Countless()])
def test_metadata_that_raises_costs_what_it_belongs_to(metadata):
    whole = [
        Document("k", "text", metadata),
        Document("k", "text", {"within": metadata}),
        Document("k", "text", {"within": [metadata]}),
        Document("k", "text", marks=[Mark(0, metadata)]),
        Document("k", chunks=[Chunk("text", metadata=metadata)]),
    ]
    assert ["BAD_METADATA"] * len(whole) == [verdict(document).code for document in whole]
    beside = verdict(Document("k", chunks=["good", Chunk("text", metadata=metadata)]))
    assert ["BAD_METADATA"] == [
        piece.code for piece in beside.document.chunks if isinstance(piece, PlaceholderChunk)
    ]


def test_lists_that_raise_are_refused():
    assert verdict(Document("k", chunks=OwnList())).code == "NOT_TEXT"
    assert verdict(Document("k", "text", marks=OwnList())).code == "BAD_MARKS"


@given(any_text, any_text, st.dictionaries(any_text, json_values, max_size=3))
def test_every_document_gets_a_verdict_and_what_is_accepted_can_be_stored(key, text, metadata):
    found = verdict(Document(key, text, metadata))
    if isinstance(found, Rejection):
        assert "\0" not in found.key
        found.key.encode()
        found.reason.encode()
    else:
        assert "\0" not in key + text
        (key + text + found.metadata).encode()
        json.loads(found.metadata)


@given(any_text)
def test_a_printable_key_can_be_stored(key):
    shown = printable(key)
    assert "\0" not in shown
    assert len(shown.encode()) <= MAX_KEY_BYTES


pieces = (
    any_text
    | st.sampled_from(["text", "\0", 5, b"x", None])
    | st.builds(
        Chunk, any_text, offsets, offsets, st.dictionaries(any_text, json_values, max_size=2)
    )
)


@given(st.lists(pieces, max_size=6))
def test_a_piece_costs_none_of_its_neighbours(given_pieces):
    alone = [verdict(Document("k", chunks=[piece])) for piece in given_pieces]
    good = [piece for piece, found in zip(given_pieces, alone, strict=True) if is_good(found)]
    found = verdict(Document("k", chunks=given_pieces))
    assert bool(good) == isinstance(found, Validated)
    if isinstance(found, Validated):
        kept = found.document.chunks
        assert good == [piece for piece in kept if piece in good and is_visible(piece)]
        refused = [piece.code for piece in kept if isinstance(piece, PlaceholderChunk)]
        assert refused == [
            each.code for each in alone if not is_good(each) and each.code != "EMPTY"
        ]
        for piece in kept:
            json.dumps(getattr(piece, "content", piece)).encode()
        assert found.digest == verdict(Document("k", chunks=list(given_pieces))).digest
        assert found.digest == verdict(found.document).digest


def test_the_digest_tells_every_change():
    variants = [
        Document("k", "text"),
        Document("k", "text "),
        Document("k", "text", {"a": 1}),
        Document("k", "text", mode="markdown"),
        Document("k", "text", marks=[Mark(0, {"page": 1})]),
        Document("k", "text", marks=[Mark(1, {"page": 1})]),
        Document("k", "text", marks=[Mark(0, {"page": 2})]),
        Document("k", chunks=["text"]),
        Document("k", chunks=["te", "xt"]),
        Document("k", chunks=["t", "ext"]),
        Document("k", chunks=[Chunk("text", metadata={"a": 1})]),
        Document("k", chunks=["text", "a\0b"]),
        Document("k", chunks=["text", "a\0c"]),
        Document("k", chunks=["text", "a\\0b"]),
        Document("k", chunks=["text", Chunk("a", 4, 0)]),
        Document("k", chunks=["text", Chunk("a", 5, 0)]),
        Document("k", chunks=["text", Chunk("a", metadata=None)]),
    ]
    digests = [verdict(document).digest for document in variants]
    assert len(variants) == len(set(digests))


def test_the_digest_tells_the_mode_of_the_collection():
    document = Document("k", "text")
    texts, markdown = (validate(document, max_bytes=9, mode=mode) for mode in ("text", "markdown"))

    assert texts.digest != markdown.digest
    assert texts.digest == validate(replace(document, mode="text"), max_bytes=9).digest
    assert markdown.digest == validate(replace(document, mode="markdown"), max_bytes=9).digest


@pytest.mark.parametrize(
    ("document", "digest"),
    [
        (Document("k", "text"), "46be65b84f0a4e902b9d1c3f55070e06ead5f56dcf8380fd283d826f4172f682"),
        (
            Document("k", "text", {"a": [1, "ü"]}),
            "697fc1add65f8f8625481239c768a89e901484b06738367e451cc45b069b4ab7",
        ),
        (
            Document("k", chunks=["a", Chunk("b", 1, 2, {"a": 1})]),
            "9bb22da6df029f3c96dbe087259246a26f006b562465cc3888aa93a1aacaf934",
        ),
    ],
)
def test_documents_from_before_are_unchanged(document, digest):
    assert digest == verdict(document).digest.hex()


def test_the_order_of_metadata_is_no_change():
    one, two = Document("k", "t", {"a": 1, "b": 2}), Document("k", "t", {"b": 2, "a": 1})
    assert verdict(one).digest == verdict(two).digest
