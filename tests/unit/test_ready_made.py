import pytest

from embedfleet_producer.ready_made import as_chunks, cut_by, located
from embedfleet_producer.validation import Validated, validate
from embedfleet_schema.errors import BadChunking
from embedfleet_schema.types import Chunk, Document, Mark


def cut(function, document: Document, mode="text"):
    return cut_by(function, validate(document, max_bytes=10_000, mode=mode), mode)


def test_the_chunks_of_a_callers_function_are_found_in_their_order():
    chunks = located(as_chunks(["ab", "cd", "ab", "ef"]), "ab cd ab ef")

    assert [("ab", 0, 2), ("cd", 3, 5), ("ab", 6, 8), ("ef", 9, 11)] == [
        (chunk.content, chunk.start, chunk.end) for chunk in chunks
    ]


def test_overlapping_and_nested_pieces_are_found_too():
    chunks = located(as_chunks(["abcd", "cdef", "ef"]), "abcdef")

    assert [(0, 4), (2, 6), (4, 6)] == [(chunk.start, chunk.end) for chunk in chunks]


def test_a_piece_that_is_not_in_the_text_has_no_offsets_and_does_not_disturb_the_others():
    chunks = located(as_chunks(["Summary!", "cd"]), "ab cd")

    assert [Chunk("Summary!"), Chunk("cd", 3, 5)] == chunks


def test_ready_made_chunks_keep_their_metadata_and_true_offsets():
    given_chunks = [Chunk("ab", 3, 5, {"page": 1}), Chunk("ab", 1, 3), "  ", Chunk("")]

    assert [Chunk("ab", 3, 5, {"page": 1}), Chunk("ab", None, None)] == located(
        as_chunks(given_chunks), "ab ab"
    )


def test_ready_made_chunks_without_a_text_pass_as_they_are():
    assert [Chunk("x", 7, 8), Chunk(" y ")] == list(as_chunks([Chunk("x", 7, 8), " y ", "\u200b"]))


@pytest.mark.parametrize("given_pieces", ["text", None, 3])
def test_what_is_no_list_of_pieces_is_refused(given_pieces):
    with pytest.raises(BadChunking, match="not"):
        list(as_chunks(given_pieces))


@pytest.mark.parametrize("start", ["0", 0.5, -1, 2**80, True])
def test_offsets_that_cannot_be_are_looked_for(start):
    assert [Chunk("ab", 3, 5)] == located([Chunk("ab", start)], "cd ab")


def test_documents_whose_chunks_came_out_alike_are_the_same():
    document = Document("k", "one two")
    words, again = cut(str.split, document), cut(lambda text: text.split(" "), document)
    lines = cut(str.splitlines, document)

    assert words.digest == again.digest
    assert words.digest != lines.digest
    assert lines.digest != validate(document, max_bytes=10_000).digest


def test_marks_of_the_text_are_in_the_chunks_under_their_own_metadata():
    document = Document("k", "one two", marks=[Mark(0, {"page": 1}), Mark(4, {"page": 2})])
    chunks = ["one", Chunk("two", metadata={"page": "mine"}), "Summary!"]

    assert [{"page": 1}, {"page": "mine"}, {}] == [
        chunk.metadata for chunk in cut(lambda _: chunks, document).document.chunks
    ]


def test_the_pieces_of_markdown_know_their_headings():
    document = Document("k", "# One\n\nword", mode="markdown")

    assert [{"headings": ["One"]}] * 2 == [
        chunk.metadata for chunk in cut(lambda _: ["# One", "word"], document).document.chunks
    ]


def test_ready_made_chunks_are_not_shown_to_a_function():
    judged = validate(Document("k", chunks=["one two"]), max_bytes=10_000)

    assert cut_by(str.split, judged, "text") is judged


@pytest.mark.parametrize(
    ("function", "code"),
    [
        (lambda _: 1 / 0, "CHUNKER_FAILED"),
        (lambda _: 5, "CHUNKER_FAILED"),
        (lambda _: [5], "NOT_TEXT"),
        (lambda _: [Chunk(5)], "NOT_TEXT"),
        (lambda _: "text", "CHUNKER_FAILED"),
        (lambda _: [], "EMPTY"),
        (lambda _: ["a\0b"], "NUL_BYTE"),
    ],
)
def test_what_a_function_does_wrong_is_the_verdict_on_its_document(function, code):
    assert code == cut(function, Document("k", "text")).code


def test_what_a_function_made_is_accepted_beside_what_cannot_be_seen():
    assert isinstance(cut(lambda _: ["\u200b", "text"], Document("k", "text")), Validated)


def test_a_function_that_raises_what_has_no_words_fails_this_document_alone():
    class Unspeakable(Exception):
        def __str__(self):
            raise RuntimeError

        __repr__ = __str__

    def function(_):
        raise Unspeakable

    assert cut(function, Document("k", "text")).code == "CHUNKER_FAILED"
