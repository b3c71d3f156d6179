"""Queries that say nothing to their model: they would find anything."""

import pytest

import embedfleet as ef
from embedfleet_schema.errors import UnreadableQuery

THAI, LAO, EMOJI = "สวัสดีครับผม", "ສະບາຍດີ", "👍 🦄"
HASH = "0123456789abcdef" * 8


@pytest.fixture
def docs(fleet):
    """What a model of English sees, embedded by the fake."""
    chunking = ef.Chunking(tokenizer="all-MiniLM-L6-v2")
    return fleet.collection("docs", model="fake/16", chunking=chunking)


@pytest.mark.parametrize("query", ["", " \n", "\u200b\ufeff"])
def test_a_query_without_visible_text_is_refused(fleet, docs, query):
    with pytest.raises(UnreadableQuery, match="no visible text"):
        docs.search(query)
    behind_api = fleet.collection("api", model="openai/text-embedding-3-small")
    with pytest.raises(UnreadableQuery, match="no visible text"):
        behind_api.embed_query(query)


@pytest.mark.parametrize("query", [THAI, LAO, EMOJI, HASH, "\u0301"])
def test_a_query_that_the_model_does_not_know_is_refused(docs, query):
    with pytest.raises(UnreadableQuery, match="has no tokens for its words"):
        docs.search(query)


@pytest.mark.parametrize("query", ["hello", f"hello {LAO} world", "...", "42"])
def test_a_query_with_words_that_are_known_is_answered(docs, query):
    assert [] == docs.search(query)


def test_a_model_that_reads_every_byte_takes_any_query(fleet):
    docs = fleet.collection("docs", model="fake/16")
    assert [] == docs.search(THAI)
