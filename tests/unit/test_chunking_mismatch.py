"""What the error says of a collection that cuts its documents in another way than was asked for."""

import pytest

from embedfleet_schema.errors import ChunkingMismatch
from embedfleet_schema.store.collections import check_chunking
from embedfleet_schema.types import Chunking, CollectionInfo, Space

STORED = Chunking(400)


def collection(chunking: Chunking) -> CollectionInfo:
    return CollectionInfo(
        1, "docs", 1, Space("fake", "16", 16, 512), chunking, "cpu", "space", None
    )


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Chunking(200), "size 400, not 200"),
        (Chunking(0), "size 400, not 0 (as many tokens as the model takes)"),
        (Chunking(overlap=40), "overlap 0, not 40"),
        (
            Chunking(200, 20, "markdown"),
            "size 400, not 200; overlap 0, not 20; mode text, not markdown",
        ),
        (Chunking(tokenizer="gpt2"), "tokenizer the model's own, not gpt2"),
        (Chunking(too_long="split"), "too_long reject, not split"),
    ],
)
def test_it_says_in_words_what_differs_and_nothing_else(wanted, said):
    with pytest.raises(ChunkingMismatch) as raised:
        check_chunking(collection(STORED), wanted)
    assert str(raised.value) == (
        f"Collection 'docs' cuts its documents with {said}. "
        "Open it without naming the chunking, or create another collection."
    )


def test_both_sides_are_said_in_words():
    all_of_it = "size 0 (as many tokens as the model takes), not 9"
    with pytest.raises(ChunkingMismatch) as raised:
        check_chunking(collection(Chunking(0, tokenizer="gpt2")), Chunking(9))
    assert f"with {all_of_it}; tokenizer gpt2, not the model's own." in str(raised.value)


@pytest.mark.parametrize("wanted", [None, Chunking(), STORED])
def test_what_is_not_named_does_not_differ(wanted):
    check_chunking(collection(STORED), wanted)
