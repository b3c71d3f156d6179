"""What counts as unchanged: the text, its metadata, and how it is cut."""

import hashlib

import embedfleet as ef
from embedfleet_producer.cutting import Cutter
from plugins.fleets import ask, drain

TEXT = "one two. three four\nfive six."


def cut(docs, document, **how):
    """Whether a document was stored anew, and the batches that came of it."""
    done = docs.enqueue([document], **how).enqueued
    assert 1 == done.documents + done.unchanged
    return (done.documents == 1, done.batches)


def test_another_chunk_function_is_a_change_and_one_that_cuts_alike_is_none(fleet, worker):
    docs = fleet.collection("docs", model="fake/16")
    document = ef.Document("a", TEXT)
    assert (True, 1) == cut(docs, document, chunk=str.splitlines)
    drain(worker())
    assert (False, 0) == cut(docs, document, chunk=lambda text: text.split("\n"))
    assert (True, 1) == cut(docs, document, chunk=lambda text: text.split(". "))
    drain(worker())
    assert (True, 1) == cut(docs, document)
    drain(worker())
    assert (False, 0) == cut(docs, document)
    assert [TEXT] == [hit.content for hit in docs.search("x")]


def test_a_plan_knows_such_a_change(fleet):
    docs = fleet.collection("docs", model="fake/16")
    docs.enqueue([ef.Document("a", TEXT)])
    assert (1, 0) == ((plan := docs.plan([ef.Document("a", TEXT)], chunk=str.split)).documents,
                      plan.unchanged)  # fmt: skip
    docs.enqueue([ef.Document("a", TEXT)], chunk=str.split)
    assert 1 == docs.plan([ef.Document("a", TEXT)], chunk=str.split).unchanged


def test_the_mode_is_a_change_whether_the_document_names_it_or_not(fleet, worker):
    docs = fleet.collection("docs", model="fake/16", chunking=ef.Chunking(mode="markdown"))
    assert (True, 1) == cut(docs, ef.Document("a", "# One\n\nword"))
    drain(worker())
    assert (False, 0) == cut(docs, ef.Document("a", "# One\n\nword", mode="markdown"))
    # The text of its chunk is the same, and has its vector.
    assert (True, 0) == cut(docs, ef.Document("a", "# One\n\nword", mode="text"))


def test_markdown_from_before_gets_its_headings_and_nothing_is_embedded_again(fleet, worker):
    docs = fleet.collection("docs", model="fake/16")
    document = ef.Document("a.md", "# One\n\nword", mode="markdown")
    docs.enqueue([document])
    drain(worker())
    text = document.text.encode()
    former = hashlib.sha256(b"markdown{}%d:%b" % (len(text), text)).digest()
    ask(fleet, "UPDATE embedfleet._documents_1 SET digest = %s", former)
    ask(fleet, "UPDATE embedfleet._chunks_1 SET metadata = '{}'")
    assert (True, 0) == cut(docs, document)
    assert (False, 0) == cut(docs, document)
    assert [{"headings": ["One"]}] == [hit.metadata for hit in docs.search("x")]


def test_a_release_that_cuts_otherwise_leaves_unchanged_documents_as_they_are(
    fleet, worker, monkeypatch
):
    docs = fleet.collection("docs", model="fake/16", chunking=ef.Chunking(size=4))
    text = "One two. Three four five six. Seven."
    assert (True, 1) == cut(docs, ef.Document("a", text))
    drain(worker())
    former = [hit.content for hit in docs.search("x")]
    halves = [(0, len(text) // 2), (len(text) // 2, len(text))]
    monkeypatch.setattr(Cutter, "_cut", lambda cutter, offsets, mode: halves)
    assert (False, 0) == cut(docs, ef.Document("a", text))
    assert former == [hit.content for hit in docs.search("x")]
    # A document that changes for another reason is cut in the new way.
    assert (True, 1) == cut(docs, ef.Document("a", text, {"read": True}))
    drain(worker())
    assert former != [hit.content for hit in docs.search("x")]


def test_marks_are_a_change_that_costs_no_embedding(fleet, worker):
    docs = fleet.collection("docs", model="fake/16")
    assert (True, 1) == cut(docs, ef.Document("a", TEXT))
    drain(worker())
    assert (True, 0) == cut(docs, ef.Document("a", TEXT, marks=[ef.Mark(0, {"page": 3})]))
    assert (False, 0) == cut(docs, ef.Document("a", TEXT, marks=[ef.Mark(0, {"page": 3})]))
    assert [TEXT] == [hit.content for hit in docs.search("x", where={"page": 3})]


def test_the_same_key_twice_in_a_call_is_told_by_its_chunks(migrated_url, redis_url):
    stream = [ef.Document("a", TEXT), ef.Document("a", TEXT), ef.Document("b", TEXT)] * 2
    with ef.connect(migrated_url, redis_url, window_documents=2) as fleet:
        docs = fleet.collection("docs", model="fake/16")
        done = docs.enqueue(stream, chunk=str.split).enqueued
        assert (2, 0) == (done.documents, done.rejected)


def test_a_function_is_called_once_for_each_document_of_a_call(fleet):
    docs = fleet.collection("docs", model="fake/16")
    seen = []

    def whole(text):
        seen.append(text)
        return [text]

    docs.enqueue([ef.Document(f"d{n}", f"text {n}") for n in range(3)], chunk=whole)
    assert ["text 0", "text 1", "text 2"] == seen
    assert 3 == ask(fleet, "SELECT count(*) FROM embedfleet._chunks_1")[0][0]


def test_headings_of_markdown_can_be_filtered_by(fleet, worker):
    docs = fleet.collection("docs", model="fake/16", chunking=ef.Chunking(16))
    text = "# Setup\n\nwords\n\n## TLS\n\n```sh\n# no heading\n```\n\n" + "more words. " * 20
    docs.enqueue([ef.Document("a.md", text, mode="markdown")])
    drain(worker())
    found = docs.search("x", where={"headings": ["Setup", "TLS"]}, k=50)
    assert found
    assert all({"headings": ["Setup", "TLS"]} == hit.metadata for hit in found)
    assert {"Setup", "TLS"} == {name for hit in docs.search("x", k=50)
                                for name in hit.metadata["headings"]}  # fmt: skip
