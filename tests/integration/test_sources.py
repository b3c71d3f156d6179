"""Where a document comes from: filled in, kept, defended and taken over."""

import itertools
import threading

import pytest

import embedfleet as ef
from embedfleet_producer.enqueue import Producer
from embedfleet_producer.existing import existing_documents
from plugins.fleets import ask, drain


def document(text, source=None, key="1"):
    return ef.Document(key, text, source=source)


def stored(fleet):
    return dict(ask(fleet, "SELECT key, source FROM embedfleet._documents_1 ORDER BY key"))


def versions(fleet):
    return dict(ask(fleet, "SELECT key, version FROM embedfleet._documents_1"))


def test_a_source_is_stored_and_filled_in_where_nobody_had_named_one(fleet, docs, worker):
    docs.enqueue([document("one"), document("two", "/b", key="2")])
    drain(worker())
    again = docs.enqueue([document("one", "/a"), document("two", "/b", key="2")]).enqueued
    assert (0, 2, 0, 0) == (again.documents, again.unchanged, again.rejected, again.batches)
    assert {"1": "/a", "2": "/b"} == stored(fleet)
    assert {"1": 1, "2": 1} == versions(fleet)
    docs.enqueue([document("one"), document("two", "/c", key="2")])
    assert {"1": "/a", "2": "/b"} == stored(fleet)


def test_a_changed_document_of_another_source_does_not_replace_the_first(fleet, docs):
    docs.enqueue([document("one", "/a.csv")])
    [verdict] = docs.enqueue([document("other", "/b.csv")]).enqueued.rejections
    assert ("1", "KEY_TAKEN") == (verdict.key, verdict.code)
    for named in ("/a.csv", "/b.csv", "--key-prefix", "--replace", "replace=True"):
        assert named in verdict.reason
    assert {"1": "/a.csv"} == stored(fleet)
    assert {"1": 1} == versions(fleet)


@pytest.mark.parametrize(
    ("before", "after", "replace", "source"),
    [
        ("/a", "/a", False, "/a"),
        ("/a", None, False, None),
        (None, "/a", False, "/a"),
        (None, None, False, None),
        ("/a", "/b", True, "/b"),
    ],
)
def test_a_changed_document_replaces_one_of_its_own_source_or_of_none(
    fleet, docs, before, after, replace, source
):
    docs.enqueue([document("one", before)])
    done = docs.enqueue([document("two", after)], replace=replace).enqueued
    assert (1, 0) == (done.documents, done.rejected)
    assert {"1": source} == stored(fleet)


def test_taking_over_what_is_unchanged_moves_the_source_alone(fleet, docs):
    docs.enqueue([document("one", "/old/a")])
    done = docs.enqueue([document("one", "/new/a")], replace=True).enqueued
    assert (0, 1) == (done.documents, done.unchanged)
    assert {"1": "/new/a"} == stored(fleet)
    assert {"1": 1} == versions(fleet)


@pytest.mark.parametrize("window_documents", [1, 2, 1_000])
def test_two_documents_of_one_key_in_one_call_name_both_places(
    migrated_url, redis_url, window_documents
):
    with ef.connect(migrated_url, redis_url, window_documents=window_documents) as fleet:
        docs = fleet.collection("docs", model="fake/16")
        stream = [
            document("one", "/a.csv"),
            document("between", "/a.csv", key="2"),
            document("two", "/b.csv"),
        ]
        [verdict] = docs.enqueue(stream).enqueued.rejections
        assert "DUPLICATE_KEY" == verdict.code
        assert "/a.csv" in verdict.reason
        assert "/b.csv" in verdict.reason
        [planned] = docs.plan([document("three", "/c.csv")]).rejections
        assert "KEY_TAKEN" == planned.code
        assert [] == docs.plan([document("three", "/c.csv")], replace=True).rejections


def test_a_plan_names_both_places_of_a_key_that_comes_twice(fleet, docs):
    [verdict] = docs.plan([document("one", "/a"), document("two", "/b")]).rejections
    assert "DUPLICATE_KEY" == verdict.code
    assert "/a" in verdict.reason
    assert "/b" in verdict.reason


@pytest.mark.parametrize("source", ["", 7, "a\0b", "\ud800", "x" * 5_000])
def test_a_source_that_cannot_be_stored_gets_a_verdict(docs, source):
    [verdict] = docs.enqueue([document("one", source)]).enqueued.rejections
    assert verdict.code in {"BAD_SOURCE", "NUL_BYTE", "BAD_UNICODE"}


def test_of_two_producers_that_take_a_key_at_once_the_second_is_told(fleet, docs, monkeypatch):
    """Both have looked the key up before either has stored it."""
    both_looked = threading.Barrier(2)
    looks = itertools.count(1)

    def looking(*arguments):
        known = existing_documents(*arguments)
        if next(looks) <= both_looked.parties:
            both_looked.wait(30)
        return known

    monkeypatch.setattr("embedfleet_producer.enqueue.existing_documents", looking)
    done = {}

    def enqueue(source):
        producer = Producer(fleet.db, docs.info, fleet.settings, fleet.doorbell)
        done[source] = producer.enqueue([document(f"text of {source}", source)])

    threads = [threading.Thread(target=enqueue, args=(source,)) for source in ("/a", "/b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [winner] = stored(fleet).values()
    (loser,) = {"/a", "/b"} - {winner}
    assert [] == done[winner].rejections
    assert ["KEY_TAKEN"] == [each.code for each in done[loser].rejections]
    assert {"1": 1} == versions(fleet)
