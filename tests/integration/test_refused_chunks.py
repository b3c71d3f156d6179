"""Chunks that no worker could embed: each has its verdict, and its neighbours are searchable."""

import pytest

import embedfleet as ef
from embedfleet_schema.embedded_text import text_hash
from plugins.fleets import ask, drain

THAI, LAO, EMOJI = "สวัสดีครับผม", "ສະບາຍດີ", "👍 🦄"
HASH = "0123456789abcdef" * 8
LONG = "word " * 600
MINILM = ef.Chunking(tokenizer="all-MiniLM-L6-v2")


@pytest.fixture
def docs(fleet):
    """What a model of English sees, embedded by the fake."""
    return fleet.collection("docs", model="fake/16", chunking=MINILM)


def verdicts(docs):
    return {(each.document, each.position): each.code for each in docs.failures()}


def contents(docs, *, k=10):
    return {hit.content for hit in docs.search("anything", k=k)}


def test_a_chunk_that_is_too_long_costs_no_neighbour(docs, worker):
    job = docs.enqueue([ef.Document("a", chunks=["one", LONG, "two"]), ef.Document("b", "three")])
    assert (2, 0, 1) == (job.enqueued.documents, job.enqueued.rejected, job.enqueued.failed)
    drain(worker())
    assert {("a", 1): "TOO_LONG"} == verdicts(docs)
    assert {"one", "two", "three"} == contents(docs)
    assert ("done", 1, 3) == ((status := job.status).state, status.failed, status.embedded)
    assert (1, 0) == ((audit := docs.audit()).failed, audit.missing)
    assert "incomplete" == docs.explain("a").state


def test_nobody_is_told_to_try_again_what_would_fail_again(docs, worker, command):
    docs.enqueue([ef.Document("a", chunks=["one", LONG])])
    drain(worker())
    said = str(docs.explain("a")), command("failures", "docs").err, command("retry", "docs").out
    assert "A retry does not help" in said[0]
    assert [] == [each for each in said if "embedfleet retry" in each]
    assert "no failed chunks to retry\n" == said[2]


def test_a_piece_of_a_callers_function_that_is_too_long_costs_no_neighbour(docs, worker):
    docs.enqueue([ef.Document("a", f"one\n{LONG}\ntwo")], chunk=str.splitlines)
    drain(worker())
    assert {("a", 1): "TOO_LONG"} == verdicts(docs)
    assert {"one", "two"} == contents(docs)


def test_texts_in_a_script_that_the_model_does_not_know_fail_with_a_reason(docs, worker):
    texts = {"thai": THAI, "lao": LAO, "emoji": EMOJI, "hash": HASH, "english": "a text"}
    job = docs.enqueue(ef.Document(key, text) for key, text in texts.items())
    assert 3 == job.enqueued.failed
    drain(worker())
    assert {(key, 0): "UNREADABLE_BY_MODEL" for key in ("thai", "lao", "emoji")} == verdicts(docs)
    assert {HASH[:64], HASH[64:], "a text"} == contents(docs)


def test_only_the_chunk_that_is_not_read_is_missing_from_its_document(docs, worker):
    docs.enqueue([ef.Document("a", chunks=["before", THAI, "after"])])
    drain(worker())
    assert {("a", 1): "UNREADABLE_BY_MODEL"} == verdicts(docs)
    assert {"before", "after"} == contents(docs)


def test_a_plan_counts_what_would_fail(docs):
    documents = [ef.Document("a", chunks=["one", LONG]), ef.Document("b", THAI)]
    plan = docs.plan([*documents, ef.Document("c", THAI)])
    done = docs.enqueue([*documents, ef.Document("c", THAI)]).enqueued
    assert (3, 2, 1) == (plan.documents, plan.failed, plan.to_embed)
    assert (3, 2, 1) == (done.documents, done.failed, docs.audit().waiting)


def test_what_was_refused_is_not_tried_by_a_retry_or_by_enqueueing_it_again(docs, worker):
    documents = [ef.Document("a", chunks=["one", LONG]), ef.Document("b", THAI)]
    docs.enqueue(documents)
    again = docs.enqueue(documents).enqueued
    assert (0, 2) == (again.failed, again.unchanged)
    drain(worker())
    assert docs.retry() is None
    assert docs.audit(repair=True).clean
    drain(worker())
    assert {("a", 1): "TOO_LONG", ("b", 0): "UNREADABLE_BY_MODEL"} == verdicts(docs)
    assert {"one"} == contents(docs)


def test_a_verdict_goes_with_its_chunk(docs, worker):
    docs.enqueue([ef.Document("a", chunks=["one", LONG]), ef.Document("b", THAI)])
    docs.enqueue([ef.Document("a", chunks=["one", "two"])])
    docs.delete(["b"])
    drain(worker())
    assert {} == verdicts(docs)
    assert {"one", "two"} == contents(docs)


def test_a_text_that_has_its_vector_is_not_refused(fleet, docs, worker):
    """As those do that were embedded before anybody looked."""
    docs.enqueue([ef.Document("a", "placeholder")])
    drain(worker())
    with fleet.db.transaction() as conn:
        conn.execute(
            "UPDATE embedfleet._texts_1 SET content = %s, hash = %s", [THAI, text_hash(THAI).hex()]
        )
    done = docs.enqueue([ef.Document("b", THAI)]).enqueued
    assert (0, 1) == (done.failed, done.reused)
    assert {} == verdicts(docs)


def test_a_collection_can_truncate_what_is_too_long(fleet, worker):
    chunking = ef.Chunking(too_long="truncate")
    docs = fleet.collection("docs", model="fake/16", chunking=chunking)
    docs.enqueue([ef.Document("a", chunks=["one", ef.Chunk(LONG, 0, len(LONG), {"page": 1})])])
    drain(worker(batch_tokens_cpu=8_192))
    (hit,) = docs.search("x", where={"truncated": True})
    assert ("word " * 512).strip() == hit.content
    assert {"page": 1, "truncated": True, "original_tokens": 600} == hit.metadata
    assert (1, 2, {}) == (hit.position, docs.counts().vectors, verdicts(docs))
    assert [(len(hit.content),)] == ask(fleet, "SELECT max(end_offset) FROM embedfleet._chunks_1")


def test_a_collection_can_split_what_is_too_long(fleet, worker):
    docs = fleet.collection("docs", model="fake/16", chunking=ef.Chunking(too_long="split"))
    docs.enqueue([ef.Document("a", chunks=["one", LONG, "two"])])
    drain(worker(batch_tokens_cpu=8_192))
    hits = sorted(docs.search("x"), key=lambda hit: hit.position)
    assert [0, 1, 2, 3] == [hit.position for hit in hits]
    assert LONG.split() == " ".join(hit.content for hit in hits[1:3]).split()
    assert {} == verdicts(docs)


# Pieces that cannot be stored, with the code that each gets.
FAULTY = {
    "NUL_BYTE": "a\0b",
    "BAD_UNICODE": "half \ud83d of a pair",
    "NOT_TEXT": 5,
    "BAD_METADATA": ef.Chunk("one", metadata={"x": {1}}),
    "BAD_OFFSETS": ef.Chunk("two", 4, 0),
}


def test_a_piece_that_cannot_be_stored_costs_no_neighbour(fleet, docs, worker):
    pieces = ["one", *FAULTY.values(), "two"]
    done = docs.enqueue([ef.Document("a", chunks=pieces), ef.Document("b", "three")]).enqueued
    assert (2, 0, 5, 8) == (done.documents, done.rejected, done.failed, done.chunks)
    drain(worker())
    assert {("a", n): code for n, code in enumerate(FAULTY, 1)} == verdicts(docs)
    assert {"one", "two", "three"} == contents(docs)
    status = fleet.job(1).status
    assert ("done", 5, 3) == (status.state, status.failed, status.embedded)
    found = docs.explain("a")
    assert ("incomplete", list(FAULTY)) == (found.state, [each.code for each in found.failures])
    assert "Chunk 1 failed: NUL_BYTE: character 1 is NUL; remove it." in str(found)
    assert (5, 0) == ((audit := docs.audit()).failed, audit.missing)


def test_a_document_with_such_pieces_is_unchanged_until_one_is_mended(docs, worker):
    pieces = ["one", *FAULTY.values(), "two"]
    docs.enqueue([ef.Document("a", chunks=pieces)])
    drain(worker())
    again = docs.enqueue([ef.Document("a", chunks=pieces)]).enqueued
    assert (0, 1, 0) == (again.documents, again.unchanged, again.failed)
    assert docs.retry() is None
    assert docs.audit(repair=True).clean
    mended = docs.enqueue([ef.Document("a", chunks=[*pieces[:-2], "mended", "two"])]).enqueued
    assert (1, 0, 4, 2) == (mended.documents, mended.unchanged, mended.failed, mended.reused)
    drain(worker())
    assert {"one", "two", "mended"} == contents(docs)
    assert sorted(set(FAULTY) - {"BAD_OFFSETS"}) == sorted(verdicts(docs).values())


def test_what_stands_for_a_faulty_piece_is_no_text_of_another_document(docs, worker):
    docs.enqueue([ef.Document("a", chunks=["one", "a\0b", ef.Chunk("same", 4, 0)])])
    docs.enqueue([ef.Document("b", chunks=["a\\0b", "same"])])
    drain(worker())
    assert {"one", "a\\0b", "same"} == contents(docs)
    assert {("a", 1): "NUL_BYTE", ("a", 2): "BAD_OFFSETS"} == verdicts(docs)


def test_a_document_of_which_no_piece_can_be_stored_is_not_accepted(docs, worker):
    docs.enqueue([ef.Document("a", chunks=["one"])])
    drain(worker())
    done = docs.enqueue([ef.Document("a", chunks=["\u200b", *FAULTY.values()])]).enqueued
    assert ["NUL_BYTE"] == [verdict.code for verdict in done.rejections]
    assert {"one"} == contents(docs)


def test_a_faulty_piece_of_a_callers_function_costs_no_neighbour(docs, worker):
    def cut(text):
        return ["one", *FAULTY.values(), ef.Chunk("two", "0"), ef.Chunk("three", metadata=None)]

    marks = [ef.Mark(0, {"page": 1})]
    document = ef.Document("a", "one two three", marks=marks)
    assert 5 == docs.enqueue([document], chunk=cut).enqueued.failed
    drain(worker())
    # Where its offsets do not hold, a piece is looked for in the text.
    codes = ["NUL_BYTE", "BAD_UNICODE", "NOT_TEXT", "BAD_METADATA"]
    assert [*codes, "BAD_METADATA"] == [code for _, code in sorted(verdicts(docs).items())]
    assert {"one", "two"} == contents(docs)
    assert 1 == docs.enqueue([document], chunk=cut).enqueued.unchanged


@pytest.mark.parametrize("too_long", ["reject", "truncate", "split"])
def test_what_becomes_of_long_chunks_is_not_done_to_faulty_ones(fleet, worker, too_long):
    docs = fleet.collection("docs", model="fake/16", chunking=ef.Chunking(too_long=too_long))
    faulty = "\0 " + "word " * 600
    assert 1 == docs.enqueue([ef.Document("a", chunks=["one", faulty])]).enqueued.failed
    drain(worker())
    assert {("a", 1): "NUL_BYTE"} == verdicts(docs)
    assert {"one"} == contents(docs)


def test_a_plan_counts_pieces_that_cannot_be_stored(docs):
    plan = docs.plan([ef.Document("a", chunks=["one", *FAULTY.values()])])
    assert (1, 5, 1) == (plan.documents, plan.failed, plan.to_embed)
