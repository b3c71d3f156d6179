"""Another template for what is stored: told first, embedded from the database, and never half."""

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg import sql

import embedfleet as ef
from embedfleet_schema.embedded_text import text_hash
from embedfleet_schema.errors import BadChunking, TemplateUnfinished
from embedfleet_schema.statements import composed
from embedfleet_schema.store import collections, ingest, stored_chunks
from embedfleet_schema.types import Chunking
from plugins.fleets import ask
from plugins.pipelines import ScriptedEmbedder, finish, pipeline_around

TITLED = "{title}\n\n{content}"


def embedded(fleet, docs):
    """Takes all batches through; returns the texts that the model was given."""
    asked = []

    def answer(texts, vectors):
        asked.extend(texts)
        return vectors

    pipeline, _ = pipeline_around(fleet, ScriptedEmbedder(docs.info.space, answer))
    finish(fleet, pipeline)
    return sorted(asked)


def seen(fleet):
    """What the view shows."""
    found = ask(
        fleet, "SELECT document, content, context FROM embedfleet.docs ORDER BY 1, position"
    )
    return [tuple(row) for row in found]


def documents(*names):
    return [ef.Document(name, f"text of {name}", {"title": f"T {name}"}) for name in names]


@pytest.fixture
def live(fleet, docs):
    """Two documents that readers see."""
    docs.enqueue([*documents("a", "b"), ef.Document("c", "untitled")])
    embedded(fleet, docs)
    return docs


def test_a_change_tells_its_cost_and_does_nothing(fleet, live):
    before = seen(fleet)
    plan = live.plan_template(TITLED)
    assert (2, 1, 0, 2) == (plan.documents, plan.unchanged, plan.rejected, plan.to_embed)
    # Each has a title of two tokens and a content of three.
    assert (10, 10) == (plan.tokens, plan.tokens_to_pay)
    assert before == seen(fleet)
    assert "" == fleet.collection("docs").info.template


def test_documents_serve_the_former_version_until_the_new_one_is_whole(fleet, live):
    before = seen(fleet)
    job = live.set_template(TITLED)
    assert (2, 1, 2) == (job.enqueued.documents, job.enqueued.unchanged, job.enqueued.chunks)
    assert before == seen(fleet)
    assert TITLED == live.info.template == fleet.collection("docs").info.template
    assert ["T a\n\ntext of a", "T b\n\ntext of b"] == embedded(fleet, live)
    assert [
        ("a", "text of a", "T a\n\n"),
        ("b", "text of b", "T b\n\n"),
        ("c", "untitled", None),
    ] == seen(fleet)
    assert "done" == job.status.state
    assert live.audit().clean


def test_what_was_planned_is_what_is_embedded(fleet, live):
    plan = live.plan_template(TITLED)
    live.set_template(TITLED)
    texts = "SELECT sum(chunks), sum(tokens) FROM embedfleet.batch WHERE state = 'pending'"
    assert [(plan.to_embed, plan.tokens)] == ask(fleet, texts)


def test_documents_that_come_again_are_unchanged_after_a_change(fleet, live):
    live.set_template(TITLED)
    embedded(fleet, live)
    job = live.enqueue([*documents("a", "b"), ef.Document("c", "untitled")])
    assert (3, 0) == (job.enqueued.unchanged, job.enqueued.documents)


def test_a_template_that_is_taken_away_again_costs_nothing_while_its_texts_are_there(fleet, live):
    live.set_template(TITLED)
    live.set_template("")
    # The former version never went, so its vectors are there.
    assert [("a", "text of a", None), ("b", "text of b", None), ("c", "untitled", None)] == seen(
        fleet
    )
    assert [] == embedded(fleet, live)
    assert live.audit().clean


def test_a_chunk_with_a_context_of_its_own_keeps_it(fleet, docs):
    chunks = [ef.Chunk("own", context="C"), "other"]
    docs.enqueue([ef.Document("a", chunks=chunks, metadata={"title": "T"})])
    embedded(fleet, docs)
    docs.set_template(TITLED)
    assert ["T\n\nother"] == embedded(fleet, docs)
    docs.set_template("{title}: {content}")
    assert ["T: other"] == embedded(fleet, docs)
    assert [("a", "own", "C"), ("a", "other", "T: ")] == seen(fleet)


def test_a_chunk_that_leaves_no_room_makes_its_document_be_read_again(fleet):
    docs = fleet.collection("docs", "fake/16", chunking=Chunking(size=0))
    limit = docs.info.space.max_tokens
    long = ef.Document("long", " ".join(f"w{n}" for n in range(limit)), {"title": "T"})
    docs.enqueue([long, *documents("a")])
    embedded(fleet, docs)
    before = seen(fleet)
    plan = docs.plan_template(TITLED)
    job = docs.set_template(TITLED)
    assert (1, 1) == (plan.documents, plan.rejected)
    assert ["READ_AGAIN"] == [each.code for each in plan.rejections]
    assert ["READ_AGAIN"] == [each.code for each in job.enqueued.rejections]
    assert "Enqueue the document again" in job.enqueued.rejections[0].reason
    embedded(fleet, docs)
    assert before[1:] == [row for row in seen(fleet) if row[0] == "long"]
    assert "READ_AGAIN" in str(docs.explain("long"))
    assert 1 == docs.enqueue([long, *documents("a")]).enqueued.documents
    embedded(fleet, docs)
    cut = [(content, context) for key, content, context in seen(fleet) if key == "long"]
    assert long.text == " ".join(content for content, _ in cut)
    assert {"T\n\n"} == {context for _, context in cut}
    assert [] == docs.failures()


def test_what_was_refused_before_anyone_tried_stays_refused(fleet, docs):
    limit = docs.info.space.max_tokens
    chunks = [
        ef.Chunk("with\0nul", context="own"),
        ef.Chunk("word " * (limit + 1), context="own"),
        "x",
    ]
    docs.enqueue([ef.Document("a", chunks=chunks, metadata={"title": "T"})])
    embedded(fleet, docs)
    before = sorted((each.code, each.position) for each in docs.failures())
    docs.set_template(TITLED)
    assert ["T\n\nx"] == embedded(fleet, docs)
    assert before == sorted((each.code, each.position) for each in docs.failures())
    assert [("NUL_BYTE", 0), ("TOO_LONG", 1)] == before
    assert docs.audit().clean


def test_a_bad_template_changes_nothing(fleet, live):
    for call in (live.plan_template, live.set_template):
        with pytest.raises(BadChunking, match="is no field"):
            call("{a.b}{content}")
    assert "" == fleet.collection("docs").info.template
    assert 1 == len(fleet.jobs())


class Cut(Exception):
    """Stands for what ends a process."""


@pytest.fixture
def paged(monkeypatch):
    """Documents one by one."""
    monkeypatch.setattr(stored_chunks, "DOCUMENTS", 1)


def test_a_change_that_was_cut_off_goes_on_and_no_other_one_begins(fleet, live, paged):
    def cut(_):
        raise Cut

    with pytest.raises(Cut):
        live.set_template(TITLED, on_window=cut)
    again = fleet.collection("docs")
    assert (TITLED, "") == (again.info.template, again.info.former_template)
    assert "interrupted" == fleet.jobs()[0].status.state
    assert "set the template of docs again" in str(fleet.jobs()[0].status.reason)
    for call in (again.plan_template, again.set_template):
        with pytest.raises(TemplateUnfinished, match="did not come to its end"):
            call("{key} {content}")
    assert (1, 2) == (again.plan_template(TITLED).documents, again.plan_template(TITLED).unchanged)
    assert 1 == again.set_template(TITLED).enqueued.documents
    assert again.info.former_template is None
    embedded(fleet, again)
    assert ["T a\n\n", "T b\n\n", None] == [context for *_, context in seen(fleet)]


def test_a_document_that_changes_or_goes_meanwhile_is_not_put_back(fleet, live, paged, monkeypatch):
    merge, others = ingest.merge, fleet.collection("docs")
    meanwhile = {
        "a": lambda: others.enqueue([ef.Document("a", "new text", {"title": "New"})]),
        "b": lambda: others.delete(["b"]),
    }

    def merged(db, collection, job_id, window, **options):
        for key in [key for key in window.versions if key in meanwhile]:
            meanwhile.pop(key)()
        return merge(db, collection, job_id, window, **options)

    monkeypatch.setattr(ingest, "merge", merged)
    live.set_template(TITLED)
    assert {} == meanwhile
    embedded(fleet, live)
    assert [("a", "new text", "New\n\n"), ("c", "untitled", None)] == seen(fleet)
    assert live.audit().clean


def test_who_opened_the_collection_before_stores_with_the_new_template(fleet, live):
    stale = fleet.collection("docs")
    live.set_template(TITLED)
    stale.enqueue(documents("d"))
    embedded(fleet, live)
    assert ("d", "text of d", "T d\n\n") in seen(fleet)


def test_what_holds_a_draft_gets_the_template_too(fleet, live):
    live.enqueue([ef.Document("a", "a newer text", {"title": "T a"})])
    live.set_template(TITLED)
    assert ("a", "text of a", None) in seen(fleet)
    embedded(fleet, live)
    assert ("a", "a newer text", "T a\n\n") in seen(fleet)
    assert live.audit().clean


def test_chunks_that_stay_are_not_written_again(fleet, docs):
    chunks = [ef.Chunk("one", context="own"), "two", ef.Chunk("three", context="own")]
    docs.enqueue([ef.Document("a", chunks=chunks, metadata={"title": "T"})])
    embedded(fleet, docs)
    rows = composed(sql.SQL("SELECT position, id FROM embedfleet.{chunks} ORDER BY 1"), docs.info)
    with fleet.db.transaction() as conn:
        before = dict(conn.execute(rows).fetchall())
    docs.set_template(TITLED)
    embedded(fleet, docs)
    with fleet.db.transaction() as conn:
        after = dict(conn.execute(rows).fetchall())
    assert (before[0], before[2]) == (after[0], after[2])
    assert before[1] != after[1]


def test_only_the_template_of_before_ends(fleet, live):
    changed = collections.change_template(fleet.db, live.info, TITLED)
    collections.end_template_change(fleet.db, live.info)
    assert "" == fleet.collection("docs").info.former_template
    collections.end_template_change(fleet.db, changed)
    assert fleet.collection("docs").info.former_template is None


TEMPLATES = ["", TITLED, "{title}: {content}", "{key}\n{lang}\n{content}"]


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.generate],
)
@given(st.lists(st.sampled_from(TEMPLATES), min_size=1, max_size=4), st.booleans())
def test_after_any_changes_everything_is_as_if_it_had_been_stored_so(fleet, changes, draining):
    name = f"c{ask(fleet, 'SELECT coalesce(max(id), 0) FROM embedfleet.collection')[0][0]}"
    docs = fleet.collection(name, "fake/16")
    given_documents = [
        ef.Document("a", "text", {"title": "T", "lang": "en"}),
        ef.Document("b", chunks=["one", ef.Chunk("two", context="own")], metadata={"lang": "de"}),
    ]
    docs.enqueue(given_documents)
    for template in changes:
        if draining:
            embedded(fleet, docs)
        docs.set_template(template)
    embedded(fleet, docs)
    plain = fleet.collection(f"{name}_new", "fake/16", chunking=Chunking(template=changes[-1]))
    plain.enqueue(given_documents)
    embedded(fleet, plain)
    shown = (
        "SELECT document, position, content, context, embedding FROM embedfleet.{} ORDER BY 1, 2"
    )
    found = [ask(fleet, shown.format(each)) for each in (name, f"{name}_new")]
    assert [tuple(map(str, row)) for row in found[1]] == [tuple(map(str, row)) for row in found[0]]
    texts = ask(fleet, f"SELECT hash, content, context FROM embedfleet.{docs.info.texts}")
    assert all(found.bytes == text_hash(content, context) for found, content, context in texts)
    assert docs.audit().clean


def test_a_change_of_a_dropped_collection_says_so(fleet, live):
    fleet.collection("docs").drop()
    with pytest.raises(ef.EmbedfleetError, match="was dropped"):
        live.set_template(TITLED)


def test_the_change_waits_for_nobody_who_only_reads(fleet, live):
    with psycopg.connect(fleet.db.url) as reader:
        reader.execute("SELECT count(*) FROM embedfleet.docs")
        live.set_template(TITLED)
    embedded(fleet, live)
    assert ("a", "text of a", "T a\n\n") in seen(fleet)
