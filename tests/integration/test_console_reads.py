"""What the pages of the console read of a fleet."""

import unicodedata

import pytest

from embedfleet_schema.store import collections, documents, pages
from embedfleet_schema.types import Document
from plugins.command_line import POISON
from plugins.fleets import ask, drain


def test_the_last_hour_is_told_minute_by_minute(fleet, docs, worker):
    job = docs.enqueue([Document(f"d{n}", f"text {n}") for n in range(3)])
    other = fleet.collection("other", model="fake/16").enqueue([Document("bad", POISON)])
    drain(worker(fake_faults=f"poison={POISON}"))
    ask(
        fleet,
        "UPDATE embedfleet.batch SET finished_at = now() - interval '90 seconds' WHERE job_id = %s",
        job.id,
    )

    hour = pages.minutes(fleet.db)
    own = pages.minutes(fleet.db, job_id=job.id)

    assert list(range(59, -1, -1)) == [each.ago for each in hour]
    assert (3, 0) == (own[-2].embedded, own[-2].failed)
    assert [0] * 59 == [each.embedded for each in (*own[:-2], own[-1])]
    assert (3, 1) == (sum(each.embedded for each in hour), sum(each.failed for each in hour))
    assert 1 == sum(each.failed for each in pages.minutes(fleet.db, job_id=other.id))
    assert own[-2].tokens > 0
    assert 0 == sum(each.batches for each in pages.minutes(fleet.db, job_id=10**9))


def test_jobs_and_collections_come_a_page_at_a_time(fleet, docs, worker):
    for name in ("alpha", "beta", "gamma"):
        fleet.collection(name, model="fake/16")
    made = [docs.enqueue([Document("k", f"text {n}")]).id for n in range(3)]
    drain(worker())

    assert made[:0:-1] == pages.jobs(fleet.db, limit=2)
    assert made[:1] == pages.jobs(fleet.db, before=made[1])
    assert [] == pages.jobs(fleet.db, collection_id=fleet.collection("beta").info.id)
    assert ["alpha", "beta"] == [line.name for line in pages.collections(fleet.db, limit=2)]
    after = pages.collections(fleet.db, after="beta")
    assert [("docs", 1, "fake/16"), ("gamma", 0, "fake/16")] == [
        (line.name, line.documents, line.model) for line in after
    ]
    assert ["gamma"] == [line.name for line in pages.collections(fleet.db, part="mm")]
    assert [] == pages.collections(fleet.db, part="%")
    assert [] == pages.collections(fleet.db, part="\0")
    assert ["gamma", "beta"] == [each.name for each in collections.newest(fleet.db, 2)]
    assert ["k"] == [each.key for each in documents.page(fleet.db, docs.info, limit=5)]
    assert [] == documents.page(fleet.db, docs.info, after="k", limit=5)


def test_failures_are_told_by_collection_and_by_code(fleet, docs, worker):
    docs.enqueue([Document("bad", POISON), Document("good", "text"), Document("", "no key")])
    fleet.collection("fine", model="fake/16")
    drain(worker(fake_faults=f"poison={POISON}"))

    (line,) = pages.failing(fleet.db)

    assert ("docs", 2) == (line.name, line.failures)
    codes = pages.codes(fleet.db, docs.info)
    assert [(1, 0), (1, 1)] == sorted((code.failures, code.tried) for code in codes)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_key_is_found_in_either_spelling_wherever_it_is(fleet, docs, worker, form):
    held = unicodedata.normalize("NFC", "café.md")
    asked = unicodedata.normalize(form, held)
    other = fleet.collection("other", model="fake/16")
    docs.enqueue([Document(held, "a text")])
    other.enqueue([Document(held, ""), Document("café.txt", "another")])
    drain(worker())
    both = collections.newest(fleet.db, 10)

    found = pages.holding(fleet.db, both, asked)

    assert {("docs", held, True), ("other", held, False)} == {
        (each.collection, each.key, each.searchable) for each in found
    }
    begun = pages.holding(fleet.db, both, asked[:-3], prefix=True)
    assert {(held, True), ("café.txt", True)} == {(each.key, each.searchable) for each in begun}
    for nowhere in ("nowhere", "%", "\0", "\ud800"):
        assert [] == pages.holding(fleet.db, both, nowhere)
    assert [] == pages.holding(fleet.db, [], asked)
    (chunk,) = pages.chunks(fleet.db, docs.info, held)
    assert (0, "a text") == (chunk.position, chunk.content)
