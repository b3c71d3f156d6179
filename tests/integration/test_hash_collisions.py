"""Two texts of one hash, as somebody may make them who can spend 2^64 trials."""

import pytest

import embedfleet as ef
from embedfleet_producer import prepare
from embedfleet_schema.errors import HashCollision
from plugins.fleets import ask, drain


@pytest.fixture(autouse=True)
def _one_hash_for_all(monkeypatch):
    monkeypatch.setattr(prepare, "text_hash", lambda _content, _context: bytes(16))


def test_a_text_is_never_taken_for_another_one_of_its_hash(fleet, docs, worker):
    docs.enqueue([ef.Document("first", "the text of an honest author")])
    with pytest.raises(HashCollision, match="A text of 'second' has the same hash"):
        docs.enqueue([ef.Document("second", "the text of somebody else")])
    drain(worker())
    assert [("first", "the text of an honest author")] == ask(
        fleet, "SELECT document, content FROM embedfleet.docs"
    )


def test_nor_is_one_of_the_same_window(docs):
    pair = [ef.Document("first", "a text"), ef.Document("second", "another text")]
    with pytest.raises(HashCollision):
        docs.enqueue(pair)
    assert 0 == docs.counts().documents


def test_nor_is_a_content_in_another_context(fleet, docs, worker):
    def enqueue(key, context):
        docs.enqueue([ef.Document(key, chunks=[ef.Chunk("a text", context=context)])])

    enqueue("first", "of one")
    for context in ("of another", None):
        with pytest.raises(HashCollision, match="A text of 'second' has the same hash"):
            enqueue("second", context)
    drain(worker())
    others = fleet.collection("others", model="fake/16")
    others.enqueue([ef.Document("third", "a text")])
    drain(worker())
    (stored,) = ask(fleet, "SELECT embedding::text FROM embedfleet.others")
    assert stored not in ask(fleet, "SELECT embedding::text FROM embedfleet.docs")


def test_the_same_text_is_the_same(docs, worker):
    for key in ("first", "second"):
        docs.enqueue([ef.Document(key, "a text")])
    drain(worker())
    assert ["first", "second"] == [each.key for each in docs.documents() if each.live]
    assert 1 == docs.counts().vectors


def test_the_vector_of_another_collection_is_not_taken_for_another_text(fleet, docs, worker):
    docs.enqueue([ef.Document("first", "a text")])
    drain(worker())
    others = fleet.collection("others", model="fake/16")
    others.enqueue([ef.Document("second", "another text")])
    drain(worker())
    (stored,) = ask(fleet, "SELECT embedding::text FROM embedfleet.others")
    assert stored not in ask(fleet, "SELECT embedding::text FROM embedfleet.docs")
    ((own,),) = ask(fleet, "SELECT content FROM embedfleet.others")
    assert "another text" == own
