"""A changed document costs its change: chunks that are as they were stay where they are."""

from itertools import count

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg import sql

import embedfleet as ef
from embedfleet_schema.statements import composed
from embedfleet_schema.store import counters, documents, ingest
from plugins.fleets import ask, batches_of, drain
from plugins.pauses import commit

ROWS = """
SELECT c.position, t.content, c.metadata, c.start_offset, c.end_offset, c.id,
    c.ctid::text || ' ' || c.xmin AS written
FROM embedfleet.{documents} AS d
JOIN embedfleet.{chunks} AS c ON c.document_id = d.id
JOIN embedfleet.{texts} AS t ON t.id = c.text_id
WHERE d.key = %s AND {which}
ORDER BY c.position
"""
WHICH = {"newest": "{in_newest}", "live": "{in_live}", "any": "true"}


@pytest.fixture
def rows(fleet, docs):
    """Reads the chunks of a document, each with what tells whether it was written again."""

    def read(key="a", which="live"):
        statement = ROWS.replace("{which}", WHICH[which])
        with fleet.db.transaction() as conn:
            return conn.execute(composed(sql.SQL(statement), docs.info), (key,)).fetchall()

    return read


def contents(found):
    return [row[:5] for row in found]


def parts(*texts):
    """A document of these chunks."""
    return ef.Document("a", chunks=list(texts))


def seen(fleet):
    """What readers see of it."""
    found = ask(fleet, "SELECT content FROM embedfleet.docs ORDER BY position")
    return [text for (text,) in found]


@pytest.fixture
def live(docs, worker, rows):
    """Makes a document live in a version of these chunks, and returns their rows."""
    runtime = worker()

    def make(*texts):
        docs.enqueue([parts(*texts)])
        drain(runtime)
        return rows()

    return make


def test_chunks_before_a_change_are_not_written_again(live, rows):
    before = live("one", "two", "three")
    after = live("one", "two", "other")
    assert before[:2] == after[:2]
    assert before[2] != after[2]
    assert after == rows(which="any")


def test_chunks_around_a_change_are_not_written_again(fleet, live):
    before = live("one", "two", "three")
    after = live("one", "other", "three")
    assert [before[0], before[2]] == [after[0], after[2]]
    assert ["one", "other", "three"] == seen(fleet)


def test_chunks_that_move_are_written_again_with_their_new_position(live):
    before = live("one", "two")
    after = live("zero", "one", "two")
    assert [(0, "zero"), (1, "one"), (2, "two")] == [row[:2] for row in after]
    assert not {row[-1] for row in before} & {row[-1] for row in after}


def test_a_document_that_only_becomes_shorter_is_live_at_once(fleet, docs, live, rows):
    before = live("one", "two", "three")
    done = docs.enqueue([parts("one", "two")]).enqueued
    assert (1, 0) == (done.documents, done.batches)
    assert before[:2] == rows() == rows(which="any")
    assert ["one", "two"] == seen(fleet)


def test_what_differs_in_metadata_or_offsets_is_written(docs, worker, rows):
    pieces = [ef.Chunk("one", 0, 3, {"page": 1}), ef.Chunk("two", 4, 7, {"page": 1})]
    docs.enqueue([ef.Document("a", chunks=pieces)])
    drain(worker())
    before = rows()
    moved = [ef.Chunk("one", 0, 3, {"page": 1}), ef.Chunk("two", 4, 7, {"page": 2})]
    docs.enqueue([ef.Document("a", chunks=moved)])
    drain(worker())
    after = rows()
    assert before[0] == after[0]
    assert {"page": 2} == after[1][2]
    shifted = [ef.Chunk("one", 0, 3, {"page": 1}), ef.Chunk("two", 5, 8, {"page": 2})]
    docs.enqueue([ef.Document("a", chunks=shifted)])
    assert (after[0], 5) == (rows()[0], rows()[1][3])


def test_readers_see_the_former_version_until_the_new_one_is_whole(fleet, docs, live):
    live("one", "two", "three")
    store = batches_of(fleet)
    docs.enqueue([parts("one", *(f"long text {'word ' * 40} {n}" for n in range(2)))])
    assert ["one", "two", "three"] == seen(fleet)
    commit(store, store.claim("cpu"))
    assert ["one", "two", "three"] == seen(fleet)
    commit(store, store.claim("cpu"))
    assert ["one", "long", "long"] == [text.split()[0] for text in seen(fleet)]


def test_a_draft_that_is_replaced_leaves_nothing_and_what_it_shared_stays(
    fleet, docs, worker, live, rows
):
    before = live("one", "two", "three")
    docs.enqueue([parts("one", "two", "draft")])
    docs.enqueue([parts("one", "draft", "draft")])
    draft = rows(which="newest")
    assert before == rows()
    assert before[0] == draft[0]
    # Of the live version, and of the draft.
    docs.enqueue([parts("one", "two", "draft")])
    newest = rows(which="newest")
    assert [*before[:2], draft[2]] == newest
    assert {row[-1] for row in [*before, *newest]} == {row[-1] for row in rows(which="any")}
    drain(worker())
    assert newest == rows() == rows(which="any")
    assert ["one", "two", "draft"] == seen(fleet)


def test_a_document_that_becomes_again_what_readers_see_writes_nothing(docs, live, rows):
    before = live("one", "two")
    docs.enqueue([parts("other", "two")])
    docs.enqueue([parts("one", "two")])
    assert before == rows() == rows(which="any")


def test_a_process_that_dies_after_its_commit_leaves_rows_that_the_next_version_may_share(
    fleet, live, rows, monkeypatch
):
    live("one", "two", "three")
    with monkeypatch.context() as patched:
        patched.setattr(documents, "prune", lambda *_: None)
        after = live("one", "two")
    left = rows(which="any")
    assert after == left[:2]
    assert ["one", "two"] == seen(fleet)
    assert left == live("one", "two", "three")


def test_a_repair_removes_what_such_a_process_left_and_nothing_else(docs, live, rows, monkeypatch):
    live("one", "two", "three")
    with monkeypatch.context() as patched:
        patched.setattr(documents, "prune", lambda *_: None)
        after = live("one", "other", "three")
    assert 4 == len(rows(which="any"))
    assert docs.audit(repair=True).clean
    assert after == rows() == rows(which="any")


def test_only_the_longest_ranges_are_kept_and_the_rest_is_written_again(live, rows, monkeypatch):
    monkeypatch.setattr(ingest, "RANGES_KEPT", 2)
    before = live(*"abcdefghij")
    # Runs of one, two, one and three.
    after = live(*"aXcdYfZhij")
    assert list("aXcdYfZhij") == [row[1] for row in after]
    kept = {row[1] for row in after if row in before}
    assert set("cdhij") == kept
    assert 10 == len(rows(which="any"))
    # What was written a second time is not a second chunk of the next version.
    assert list("aXcdYfZhik") == [row[1] for row in live(*"aXcdYfZhik")]


def test_many_windows_of_one_process_keep_their_chunks_too(live):
    """A statement is prepared once it came some times: what it was planned for was small."""
    for number in range(8):
        before = live("one", f"end {number}")
    many = [f"text {n}" for n in range(3_000)]
    before = live(*many)
    after = live(*many[:-1], "another end")
    assert before[:-1] == after[:-1]


def test_explain_list_and_delete_count_chunks_of_former_versions(fleet, docs, worker, live):
    live("one", "two", "three")
    docs.enqueue([parts("one", "two", "other")])
    assert (3, 2) == ((found := docs.explain("a")).chunks, found.stored)
    assert [3] == [each.chunks for each in docs.documents()]
    drain(worker())
    assert "'a' is live: version 2, 3 chunks, all of them embedded." == str(docs.explain("a"))
    assert ["a"] == docs.delete(["a"])
    counted = docs.counts()
    assert (0, 0, 0) == (counted.documents, counted.chunks, counted.vectors)
    assert 0 == counters.miscounted(fleet.db, docs.info)


def test_a_large_document_that_shares_chunks_is_removed_bit_by_bit(fleet, docs, live, monkeypatch):
    live(*"abcdef")
    live(*"abcdeX")
    monkeypatch.setattr(documents, "CHUNKS_AT_ONCE", 4)
    assert ["a"] == docs.delete(["a"])
    assert [(0,)] == ask(fleet, "SELECT count(*) FROM embedfleet._chunks_1")
    assert docs.audit().clean


texts = st.lists(st.sampled_from("abcde"), min_size=1, max_size=8)
pieces = st.lists(
    st.builds(
        lambda text, page: ef.Chunk(text, metadata={"page": page} if page else {}),
        st.sampled_from("abcde"),
        st.integers(0, 1),
    ),
    min_size=1,
    max_size=8,
)


@pytest.mark.parametrize("ranges", [ingest.RANGES_KEPT, 1])
def test_after_any_edits_a_document_is_what_a_new_one_would_be(
    fleet, docs, worker, rows, monkeypatch, ranges
):
    monkeypatch.setattr(ingest, "RANGES_KEPT", ranges)
    runtime, keys = worker(), count()

    @settings(
        max_examples=60,
        derandomize=True,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
        deadline=None,
    )
    @given(st.lists(st.tuples(pieces, st.booleans()), min_size=1, max_size=5))
    def edit(versions):
        key = f"edited {next(keys)}"
        for chunks, embedded in versions:
            former = rows(key)
            docs.enqueue([ef.Document(key, chunks=chunks)])
            newest = rows(key, "newest")
            assert [(n, each.content, each.metadata) for n, each in enumerate(chunks)] == [
                row[:3] for row in newest
            ]
            assert len({row[5] for row in newest}) == len(newest)
            alike = [row for row in former if row[:5] in contents(newest)]
            if ranges > 1:
                assert [row for row in alike if row not in newest] == []
            if embedded:
                drain(runtime)
                assert newest == rows(key) == rows(key, "any")
        fresh = f"fresh {key}"
        docs.enqueue([ef.Document(fresh, chunks=versions[-1][0])])
        drain(runtime)
        assert contents(rows(fresh)) == contents(rows(key))
        assert 0 == counters.miscounted(fleet.db, docs.info)

    edit()
    assert docs.audit().clean


def test_keys_of_any_characters_are_stored_as_they_are(fleet, docs, worker):
    keys = ['a"b', "a\\", '\\"', "{a,b}", "NULL", "null", " a ", "a'b", "a\nb", "é\u2028", ","]
    docs.enqueue(ef.Document(key, "text", source=key) for key in keys)
    docs.enqueue(ef.Document(key, "text", source=key) for key in keys)
    found = ask(fleet, "SELECT key, source, version FROM embedfleet._documents_1")
    assert {(key, key, 1) for key in keys} == set(found)
    docs.enqueue(ef.Document(key, "other", source=key) for key in keys)
    assert {2} == {
        row[2] for row in ask(fleet, "SELECT key, source, version FROM embedfleet._documents_1")
    }
