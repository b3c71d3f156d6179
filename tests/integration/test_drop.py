"""Dropping a collection that others read."""

from uuid import uuid4

import pytest

from embedfleet_schema.errors import ViewsInTheWay
from plugins.fleets import ask

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
