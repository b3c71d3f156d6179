from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedfleet_producer.chunking import Chunker, PreparedChunk
from embedfleet_producer.tokens import TokenCounter, counter_for
from embedfleet_producer.too_long import longest_beginning
from embedfleet_schema.catalogue.space_lookup import resolve_space
from embedfleet_schema.types import Chunk, Chunking

MODELS = ["all-MiniLM-L6-v2", "openai/text-embedding-3-small", "fake/8"]
WORDS = st.sampled_from(["word ", "x" * 130, "漢字", "👩‍👩‍👧", "e\u0301", " \n ", "สวัสดี", "a.b,c"])


@cache
def counter(model: str) -> TokenCounter:
    return counter_for(resolve_space(model), Chunking())


def chunker(too_long: str, model: str = "fake/8") -> Chunker:
    return Chunker(resolve_space(model), Chunking(too_long=too_long), counter(model))


LONG = Chunk("word " * 600 + "end", 10, 3_013, {"page": 1})


def test_a_chunk_that_is_too_long_stays_as_it_is_unless_something_else_is_said():
    before, long, after = chunker("reject").prepare([["one", LONG, "two"]])[0]

    assert (["one", "two"], LONG, 601) == (
        [before.chunk.content, after.chunk.content],
        long.chunk,
        long.tokens,
    )


def test_a_truncated_chunk_says_so_and_its_offsets_hold():
    (long,) = chunker("truncate").prepare([[LONG]])[0]
    content = ("word " * 512).strip()
    metadata = {"page": 1, "truncated": True, "original_tokens": 601}

    assert PreparedChunk(Chunk(content, 10, 10 + len(content), metadata), 512) == long


def test_a_split_chunk_is_whole_in_pieces_that_keep_its_metadata():
    parts = chunker("split").prepare([[LONG]])[0]

    assert all(part.tokens <= 512 for part in parts)
    assert 601 == sum(part.tokens for part in parts)
    assert [{"page": 1}] * len(parts) == [part.chunk.metadata for part in parts]
    assert all(
        LONG.content[part.chunk.start - 10 : part.chunk.end - 10] == part.chunk.content
        for part in parts
    )


@pytest.mark.parametrize("chunk", [Chunk(LONG.content), Chunk(LONG.content, 10, 20)])
@pytest.mark.parametrize("too_long", ["truncate", "split"])
def test_parts_of_a_chunk_whose_place_is_not_known_have_none(chunk, too_long):
    parts = chunker(too_long).prepare([[chunk]])[0]

    assert {(None, None)} == {(part.chunk.start, part.chunk.end) for part in parts}


@settings(max_examples=200, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=40), st.integers(1, 40), st.sampled_from(MODELS))
def test_a_beginning_fits_and_no_longer_one_would(pieces, limit, model):
    text = "".join(pieces)
    end = longest_beginning(text, limit, counter(model))

    assert counter(model).read([text[:end]])[0].tokens <= limit
    assert text[:end] == text[:end].rstrip()


def test_the_beginning_of_a_long_text_is_as_long_as_can_be():
    assert len("word") + 9 * len(" word") == longest_beginning("word " * 99, 10, counter("fake/8"))


def test_nothing_begins_where_a_single_character_is_too_much():
    assert 0 == longest_beginning("👩‍👩‍👧", 1, counter("openai/text-embedding-3-small"))
