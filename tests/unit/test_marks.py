import json

from embedfleet_producer.chunking import Chunker
from embedfleet_producer.marks import in_force
from embedfleet_producer.prepare import prepare
from embedfleet_producer.tokens import counter_for
from embedfleet_producer.windows import windows
from embedfleet_schema.catalogue.space_lookup import resolve_space
from embedfleet_schema.settings import Settings
from embedfleet_schema.types import Chunk, Chunking, Document, Mark

SPACE = resolve_space("fake/8")


def metadata_of_chunks(document, *, function=None, size=4):
    """What is stored as the metadata of each chunk."""
    chunking = Chunking(size)
    (window,) = windows([document], Settings(), function=function)
    chunker = Chunker(SPACE, chunking, counter_for(SPACE, chunking))
    rows = prepare(window, {}, chunker, job_id=1).incoming.chunks
    return [json.loads(row.metadata) for row in rows]


def test_a_chunk_carries_the_marks_in_force_where_it_begins():
    text = "one two three four. five six seven eight. nine ten eleven twelve."
    marks = [Mark(0, {"page": 1, "part": "a"}), Mark(20, {"page": 2})]

    assert [
        {"page": 1, "part": "a"},
        {"page": 2, "part": "a"},
        {"page": 2, "part": "a"},
    ] == metadata_of_chunks(Document("k", text, marks=marks), size=5)


def test_marks_go_over_the_document_and_a_chunk_over_both():
    document = Document(
        "k",
        "one two",
        {"a": "document", "b": "document", "c": "document"},
        marks=[Mark(0, {"b": "mark", "c": "mark"})],
    )

    assert [{"a": "document", "b": "mark", "c": "chunk"}] == metadata_of_chunks(
        document, function=lambda text: [Chunk(text, metadata={"c": "chunk"})]
    )


def test_a_chunk_that_is_not_in_the_text_has_no_marks():
    document = Document("k", "one two", marks=[Mark(0, {"page": 1})])

    assert [{}, {"page": 1}] == metadata_of_chunks(document, function=lambda _: ["Sum!", "two"])


def test_marks_may_come_in_any_order_and_the_last_of_one_place_counts():
    marks = [Mark(5, {"n": 3}), Mark(0, {"n": 1}), Mark(0, {"n": 2})]

    assert [{"n": 2}, {"n": 3}, {}, {"n": 2}] == in_force(marks, [4, 5, None, 0])


def test_chunks_of_markdown_carry_the_headings_above_them():
    text = "intro words here\n\n# One\n\nalpha beta gamma\n\n## Two\n\ndelta epsilon zeta"
    document = Document("k", text, {"lang": "en"}, mode="markdown")

    assert [
        {"lang": "en"},
        {"lang": "en", "headings": ["One"]},
        {"lang": "en", "headings": ["One", "Two"]},
    ] == metadata_of_chunks(document, size=6)


def test_headings_of_the_document_itself_are_left_alone():
    document = Document("k", "# One", {"headings": "mine"}, mode="markdown")

    assert [{"headings": "mine"}] == metadata_of_chunks(document)
