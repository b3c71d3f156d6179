"""What is embedded with a chunk: by the collection's template, by the chunk, by a function."""

import psycopg
import pytest

import embedfleet as ef
from embedfleet_schema.embedded_text import text_hash
from embedfleet_schema.errors import BadChunking, ChunkingMismatch
from embedfleet_schema.store import ingest
from embedfleet_schema.types import Chunking
from plugins.fleets import ask, drain
from plugins.pipelines import ScriptedEmbedder, finish, pipeline_around

TITLED = "{title}\n{headings}\n\n{content}"
MARKDOWN = "# One\n\nfirst words\n\n## Two\n\nother words\n"


def templated(fleet, template=TITLED, *, name="docs", **chunking):
    return fleet.collection(name, "fake/16", chunking=Chunking(template=template, **chunking))


def seen(fleet, name="docs"):
    """What the view shows."""
    rows = ask(
        fleet,
        f"SELECT document, content, context FROM embedfleet.{name} ORDER BY document, position",
    )
    return [tuple(row) for row in rows]


def embedded(fleet, docs):
    """Takes all batches through; returns the texts that the model was given."""
    asked = []

    def answer(texts, vectors):
        asked.extend(texts)
        return vectors

    pipeline, _ = pipeline_around(fleet, ScriptedEmbedder(docs.info.space, answer))
    finish(fleet, pipeline)
    return sorted(asked)


def failed(docs):
    return {failure.code: failure.reason for failure in docs.failures()}


def test_the_template_is_embedded_with_a_text_and_is_no_part_of_what_is_read(fleet):
    docs = templated(fleet)
    docs.enqueue(
        [
            ef.Document("a", "words of a", {"title": "Title"}),
            ef.Document("b", "words of b"),
        ]
    )
    assert ["Title\n\nwords of a", "words of b"] == embedded(fleet, docs)
    assert [("a", "words of a", "Title\n\n"), ("b", "words of b", None)] == seen(fleet)
    assert {"words of a", "words of b"} == {hit.content for hit in docs.search("words", k=5)}
    assert docs.audit().clean


def test_each_part_of_markdown_gets_the_headings_above_it(fleet):
    docs = templated(fleet, "{title}: {headings}\n{content}", size=12, mode="markdown")
    docs.enqueue([ef.Document("a", MARKDOWN, {"title": "T"})])
    embedded(fleet, docs)
    assert [
        ("a", "# One\n\nfirst words", "T: One\n"),
        ("a", "## Two\n\nother words", "T: One > Two\n"),
    ] == seen(fleet)


def test_the_size_of_chunks_counts_what_is_embedded(fleet):
    docs = templated(fleet, "{title}\n\n{content}", size=40)
    text = " ".join(f"w{n}" for n in range(100))
    docs.enqueue([ef.Document("a", text, {"title": "one two three four five six seven"})])
    tokens = [count for (count,) in ask(fleet, f"SELECT tokens FROM embedfleet.{docs.info.texts}")]
    assert [40, 40, 40] == sorted(tokens, reverse=True)[:3]
    assert 40 == max(tokens)


def test_processes_cut_what_one_would(fleet):
    documents = [
        ef.Document(f"d{n}", MARKDOWN + f"# Part {n}\n\n" + "a word. " * 900, {"title": f"T {n}"})
        for n in range(4)
    ]
    found = []
    for processes in (1, 2):
        docs = templated(fleet, name=f"by_{processes}", size=32, overlap=4, mode="markdown")
        docs.enqueue(documents, processes=processes)
        found.append(
            ask(
                fleet,
                "SELECT hash, tokens, content, context"
                f" FROM embedfleet.{docs.info.texts} ORDER BY hash",
            )
        )
    assert found[0] == found[1]
    assert 28 < max(tokens for _, tokens, _, _ in found[0]) <= 32


def test_a_context_of_more_than_half_of_a_chunk_is_refused_and_the_former_version_stays(fleet):
    docs = templated(fleet, size=40)
    docs.enqueue([ef.Document("a", "words", {"title": "short"}), ef.Document("b", "others")])
    embedded(fleet, docs)
    long = ef.Document("a", "new words", {"title": "word " * 21})
    job = docs.enqueue([long, ef.Document("c", "neighbours")])
    assert ["CONTEXT_TOO_LONG"] == [each.code for each in job.enqueued.rejections]
    assert "21 tokens, more than half of the chunk size 40" in job.enqueued.rejections[0].reason
    embedded(fleet, docs)
    assert ["words", "others", "neighbours"] == [content for _, content, _ in seen(fleet)]


def test_a_chunk_brings_its_context_and_the_template_fills_the_others(fleet):
    docs = templated(fleet)
    chunks = [
        "plain",
        ef.Chunk("own", context="Of its own"),
        ef.Chunk("none", context=""),
        ef.Chunk("other", metadata={"title": "of the chunk"}),
    ]
    docs.enqueue([ef.Document("a", chunks=chunks, metadata={"title": "T"})])
    expected = ["Of its own\n\nown", "T\n\nplain", "none", "of the chunk\n\nother"]
    assert expected == embedded(fleet, docs)
    assert [("a", "own", "Of its own")] == [row for row in seen(fleet) if row[1] == "own"]


def test_a_context_works_without_a_template(fleet, docs):
    docs.enqueue([ef.Document("a", chunks=[ef.Chunk("text", context="C"), "text"])])
    assert ["C\n\ntext", "text"] == embedded(fleet, docs)
    hashes = {row[0].bytes for row in ask(fleet, f"SELECT hash FROM embedfleet.{docs.info.texts}")}
    assert {text_hash("text"), text_hash("text", "C")} == hashes


def test_the_same_content_in_other_words_is_another_text_and_another_context_a_change(fleet, docs):
    def enqueue(context):
        return docs.enqueue([ef.Document("a", chunks=["kept", ef.Chunk("text", context=context)])])

    enqueue("a")
    assert ["a\n\ntext", "kept"] == embedded(fleet, docs)
    assert 1 == enqueue("a").enqueued.unchanged
    assert 1 == enqueue("ab").enqueued.documents
    assert [("a", "kept", None), ("a", "text", "a")] == seen(fleet)
    assert ["ab\n\ntext"] == embedded(fleet, docs)
    assert [("a", "kept", None), ("a", "text", "ab")] == seen(fleet)


@pytest.mark.parametrize(
    ("context", "reason"),
    [
        (5, "a context is a string or None, not int"),
        ("a\0b", "character 1 of the context is NUL; remove it"),
        ("a\udc80", "character 1 of the context is half of a surrogate pair"),
        ("x" * 64_001, "a context has at most 64,000 bytes"),
    ],
)
def test_a_chunk_with_a_bad_context_is_refused_alone(fleet, docs, context, reason):
    docs.enqueue([ef.Document("a", chunks=["good", ef.Chunk("text", context=context)])])
    embedded(fleet, docs)
    assert {"BAD_CONTEXT": reason} == failed(docs)
    assert [("a", "good", None)] == seen(fleet)


@pytest.mark.parametrize(
    ("how", "contents", "codes"),
    [
        ("reject", ["next"], {"TOO_LONG"}),
        ("split", None, set()),
        ("truncate", None, set()),
    ],
)
def test_a_ready_made_chunk_is_too_long_together_with_its_context(fleet, how, contents, codes):
    docs = fleet.collection("docs", "fake/16", chunking=Chunking(too_long=how))
    limit = docs.info.space.max_tokens
    long = ef.Chunk("word " * (limit - 5), context="one two three four five six")
    docs.enqueue([ef.Document("a", chunks=[long, "next"])])
    embedded(fleet, docs)
    assert codes == set(failed(docs))
    found = [content for _, content, _ in seen(fleet)]
    assert contents in (None, found)
    tokens = ask(
        fleet,
        f"SELECT max(tokens) FROM embedfleet.{docs.info.texts} AS t"
        f" JOIN embedfleet.{docs.info.vectors} AS v ON v.text_id = t.id",
    )
    assert tokens[0][0] <= limit


def test_a_ready_made_chunk_with_a_context_of_half_of_the_model_fails_alone(fleet, docs):
    half = docs.info.space.max_tokens // 2
    chunk = ef.Chunk("text", context="word " * (half + 1))
    docs.enqueue([ef.Document("a", chunks=[chunk, "next"])])
    embedded(fleet, docs)
    assert ["CONTEXT_TOO_LONG"] == list(failed(docs))
    assert [("a", "next", None)] == seen(fleet)


def test_another_collection_gives_its_vector_for_the_same_content_in_the_same_context(fleet):
    first = templated(fleet, name="first")
    first.enqueue([ef.Document("a", "text", {"title": "T"}), ef.Document("b", "text")])
    embedded(fleet, first)
    second = templated(fleet, "{title}\n\n{content}", name="second")
    documents = [
        ef.Document("a", "text", {"title": "T"}),
        ef.Document("b", "text"),
        ef.Document("c", "text", {"title": "U"}),
    ]
    plan = second.plan(documents)
    assert (3, 2, 1) == (plan.texts, plan.elsewhere, plan.to_embed)
    assert 2 == second.enqueue(documents).enqueued.elsewhere
    assert ["U\n\ntext"] == embedded(fleet, second)


def test_a_collection_is_not_opened_with_another_template(fleet):
    docs = templated(fleet)
    assert TITLED == fleet.collection("docs").info.template
    assert TITLED == fleet.collection("docs", chunking=Chunking()).info.template
    with pytest.raises(ChunkingMismatch, match=r"template .* not none"):
        fleet.collection("docs", chunking=Chunking(template=""))
    assert docs.info.template == templated(fleet).info.template


@pytest.mark.parametrize(
    ("template", "size", "reason"),
    [
        ("{title}", None, "holds {content} once, at its end"),
        ("{a.b}{content}", None, "{a.b} is no field"),
        ("{title} {content}", 1, "size 1 is less than the 2 tokens"),
    ],
)
def test_a_template_that_cannot_work_makes_no_collection(fleet, template, size, reason):
    with pytest.raises(BadChunking) as refused:
        templated(fleet, template, size=size)
    assert reason in str(refused.value)
    assert [] == fleet.collections()


def said(contexts):
    """A function that says these contexts, and whom it was asked about."""
    asked = []

    def context(document, chunks):
        asked.append((document.key, [chunk.content for chunk in chunks]))
        return contexts(document, chunks)

    return context, asked


def test_a_function_is_asked_for_new_and_changed_documents_with_their_chunks(fleet):
    docs = templated(fleet, size=8)
    context, asked = said(lambda _, chunks: [f"of {chunk.content[:2]}" for chunk in chunks])
    document = ef.Document("a", "a1 a2 a3 a4 a5 a6 a7 a8")
    docs.enqueue([document], context=context)
    assert [("a", ["a1 a2 a3 a4 a5 a6", "a7 a8"])] == asked
    assert ["of a1\n\na1 a2 a3 a4 a5 a6", "of a7\n\na7 a8"] == embedded(fleet, docs)
    assert 1 == docs.enqueue([document], context=context).enqueued.unchanged
    assert 1 == docs.plan([document], context=context).unchanged
    assert 1 == len(asked)
    assert 1 == docs.enqueue([document]).enqueued.documents


def test_what_a_function_leaves_open_has_the_context_of_before(fleet):
    docs = templated(fleet)
    context, _ = said(lambda *_: [None, "said", ""])
    chunks = ["one", "two", ef.Chunk("three", context="own")]
    docs.enqueue([ef.Document("a", chunks=chunks, metadata={"title": "T"})], context=context)
    assert ["T\n\none", "said\n\ntwo", "three"] == embedded(fleet, docs)


def test_a_function_that_fails_refuses_its_document_alone(fleet, docs):
    answers = {
        "raises": None,
        "few": [],
        "text": "no list",
        "kind": [5],
        "nul": ["\0"],
        "fine": ["c"],
    }

    def context(document, _):
        if document.key == "raises":
            raise RuntimeError("no answer")
        return answers[document.key]

    job = docs.enqueue([ef.Document(key, f"text of {key}") for key in answers], context=context)
    assert {
        "raises": "the context function failed: RuntimeError('no answer')",
        "few": "the context function failed: ValueError('it gave 0 contexts for 1 chunks')",
        "text": "the context function failed: TypeError('it gives a list of contexts, not str')",
        "kind": (
            "the context function failed: ValueError('a context is a string or None, not int')"
        ),
        "nul": (
            "the context function failed: "
            "ValueError('character 0 of the context is NUL; remove it')"
        ),
    } == {each.key: each.reason for each in job.enqueued.rejections}
    assert {"CONTEXT_FAILED"} == {each.code for each in job.enqueued.rejections}
    assert ["c\n\ntext of fine"] == embedded(fleet, docs)


def test_a_chunk_that_its_context_makes_too_long_is_cut_further(fleet):
    docs = fleet.collection("docs", "fake/16", chunking=Chunking(size=0))
    limit = docs.info.space.max_tokens
    context, asked = said(lambda _, chunks: ["word " * (limit // 3)] * len(chunks))
    text = " ".join(f"w{n}" for n in range(2 * limit))
    docs.enqueue([ef.Document("a", text)], context=context)
    embedded(fleet, docs)
    rows = seen(fleet)
    assert not failed(docs)
    assert len(rows) > len(asked[0][1])
    assert text == " ".join(content for _, content, _ in rows)


def test_a_window_that_is_stored_again_does_not_ask_again(fleet, docs, monkeypatch):
    merge, fails = ingest.merge, [psycopg.errors.SerializationFailure("once")]

    def merged(*args, **options):
        if fails:
            raise fails.pop()
        return merge(*args, **options)

    monkeypatch.setattr(ingest, "merge", merged)
    context, asked = said(lambda *_: ["said"])
    docs.enqueue([ef.Document("a", "text")], context=context)
    assert 1 == len(asked)
    assert ["said\n\ntext"] == embedded(fleet, docs)


def test_a_function_is_asked_again_where_another_template_cuts_in_another_way(fleet, monkeypatch):
    docs, merge, changes = templated(fleet, size=16), ingest.merge, ["{key} {key} {key} {content}"]

    def merged(*args, **options):
        if changes:
            fleet.collection("docs").set_template(changes.pop())
        return merge(*args, **options)

    monkeypatch.setattr(ingest, "merge", merged)
    context, asked = said(lambda _, chunks: [f"of {chunk.content[:2]}" for chunk in chunks])
    key = "k1 k2"
    text = " ".join(f"w{n}" for n in range(12))
    job = docs.enqueue([ef.Document(key, text)], context=context)
    assert (1, 2) == (job.enqueued.documents, len(asked))
    shown = embedded(fleet, docs)
    assert all(each.startswith(f"of {each.partition(chr(10) * 2)[2][:2]}") for each in shown)


def test_a_worker_is_asked_for_a_query_alone(fleet, worker):
    docs = templated(fleet)
    docs.enqueue([ef.Document("a", "text", {"title": "T"})])
    drain(worker())
    vector = docs.embed_query("T\n\ntext")
    assert (docs.embed_query("text") != vector).any()
