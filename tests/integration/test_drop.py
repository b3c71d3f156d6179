"""Dropping a collection that others read."""

from uuid import uuid4

import pytest

from embedfleet_schema.database_errors import DatabaseError, ViewsInTheWay
from embedfleet_schema.store import drop
from embedfleet_schema.types import Document
from plugins.fleets import ask, documents

BUILT = {
    "a view": ('CREATE VIEW public."Mine" AS SELECT content FROM embedfleet.docs', '"Mine"'),
    "a stored view": (
        "CREATE MATERIALIZED VIEW public.mine AS SELECT content FROM embedfleet.docs",
        "materialized view public.mine",
    ),
    "a view of the vectors": (
        "CREATE VIEW public.mine AS SELECT text_id FROM embedfleet.{vectors}",
        "view public.mine",
    ),
    "a function": (
        "CREATE FUNCTION public.mine() RETURNS bigint RETURN (SELECT max(id) FROM embedfleet.docs)",
        "function public.mine()",
    ),
}


@pytest.mark.parametrize("name", BUILT)
def test_what_others_built_on_a_collection_is_named_and_stays(fleet, docs, name):
    statement, named = BUILT[name]
    ask(fleet, statement.format(vectors=docs.info.vectors))
    with pytest.raises(ViewsInTheWay) as caught:
        docs.drop()
    assert named in str(caught.value)
    assert "embedfleet collection drop docs --cascade" in str(caught.value)
    assert ["docs"] == [found.name for found in fleet.collections()]
    assert 0 == docs.counts().vectors


@pytest.mark.parametrize("name", BUILT)
def test_it_goes_with_the_collection_where_that_is_asked_for(fleet, docs, name):
    statement, named = BUILT[name]
    ask(fleet, statement.format(vectors=docs.info.vectors))
    (line,) = docs.drop(cascade=True)
    assert named in line
    assert [] == fleet.collections()


def test_what_stands_on_a_granted_search_goes_too_where_that_is_asked_for(fleet, docs):
    role = f"reader_{uuid4().hex[:12]}"
    ask(fleet, f"CREATE ROLE {role}")
    docs.grant(role)
    ask(fleet, f"DROP OWNED BY {role}")
    ask(fleet, f"DROP ROLE {role}")
    ask(fleet, "CREATE VIEW public.mine AS SELECT content FROM embedfleet.search_docs(NULL, 3)")
    with pytest.raises(ViewsInTheWay, match=r"view public\.mine"):
        docs.drop()
    assert ["drop cascades to view public.mine"] == docs.drop(cascade=True)


def test_views_of_views_are_named_too(fleet, docs, command):
    ask(fleet, "CREATE VIEW public.one AS SELECT content FROM embedfleet.docs")
    ask(fleet, "CREATE VIEW public.two AS SELECT content FROM public.one")
    refused = command("collection", "drop", "docs", "--yes")
    assert 2 == refused.code
    assert "view public.one depends on view embedfleet.docs" in refused.err
    assert "view public.two depends on view public.one" in refused.err
    done = command("collection", "drop", "docs", "--yes", "--cascade")
    assert [
        "dropped docs",
        "drop cascades to view public.one",
        "drop cascades to view public.two",
    ] == done.out.splitlines()


def test_nothing_more_is_said_where_nobody_built_on_it(docs):
    assert [] == docs.drop()


def test_batches_and_failures_go_in_pages_and_those_of_others_stay(fleet, docs, monkeypatch):
    monkeypatch.setattr(drop, "PAGE", 2)
    other = fleet.collection("other", model="fake/16")
    for collection in (docs, other):
        job = collection.enqueue(documents(30, word="some more words than before"))
        collection.enqueue([*documents(3, word=""), *(Document(f"x{n}", "") for n in range(5))])
    ask(fleet, "CREATE VIEW public.mine AS SELECT content FROM embedfleet.docs")
    before = ask(fleet, "SELECT collection_id, state, texts FROM embedfleet.batch ORDER BY id")
    with pytest.raises(ViewsInTheWay):
        docs.drop()
    assert before == ask(
        fleet, "SELECT collection_id, state, texts FROM embedfleet.batch ORDER BY id"
    )
    assert ["drop cascades to view public.mine"] == docs.drop(cascade=True)
    assert before[len(before) // 2 :] == ask(
        fleet, "SELECT collection_id, state, texts FROM embedfleet.batch ORDER BY id"
    )
    assert "running" == fleet.job(job.id).status.state
    assert 5 == len(other.failures())


def test_a_drop_that_is_cut_off_leaves_cancelled_jobs_and_is_done_again(fleet, docs, monkeypatch):
    monkeypatch.setattr(drop, "PAGE", 2)
    job = docs.enqueue(documents(60))
    ask(
        fleet,
        "CREATE FUNCTION public.cut_off() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'cut off'; END $$",
    )
    ask(
        fleet,
        "CREATE TRIGGER cut_off BEFORE DELETE ON embedfleet.collection"
        " EXECUTE FUNCTION public.cut_off()",
    )
    with pytest.raises(DatabaseError, match="cut off"):
        docs.drop()
    assert [(0,)] == ask(fleet, "SELECT count(*) FROM embedfleet.batch")
    assert "cancelled" == fleet.job(job.id).status.state
    assert 60 == docs.audit().missing
    ask(fleet, "DROP FUNCTION public.cut_off() CASCADE")
    assert [] == docs.drop()
    assert [] == fleet.collections()
