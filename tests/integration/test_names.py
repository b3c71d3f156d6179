"""Names of collections change with all that belongs to a name."""

from uuid import uuid4

import psycopg
import pytest

import embedfleet as ef
from embedfleet_schema.database_errors import NameInUse
from embedfleet_schema.errors import BadName, InModelChange, ModelChangeRefused
from plugins.fleets import ask, documents, drain


@pytest.fixture
def reader(fleet):
    """A role that may log in and nothing else, and its name is no other test's."""
    name = f"reader_{uuid4().hex}"
    with psycopg.connect(fleet.settings.database, autocommit=True) as conn:
        conn.execute(f"CREATE ROLE {name}")
        yield name
        conn.execute(f"DROP OWNED BY {name}")
        conn.execute(f"DROP ROLE {name}")


@pytest.fixture
def pair(fleet, worker):
    """Two collections of one width, and each has a document of its own."""
    made = []
    for name, prompt in (("docs", ""), ("others", "query: ")):
        each = fleet.collection(name, model="fake/16", query_prompt=prompt)
        each.enqueue([ef.Document(f"of {name}", f"a text of {name}")])
        made.append(each)
    drain(worker())
    return made


def as_role(fleet, role, statement):
    with fleet.db.transaction() as conn:
        conn.execute(f"SET LOCAL ROLE {role}")
        return conn.execute(statement).fetchall()


def test_what_reads_a_name_reads_what_has_it_now_if_its_columns_are_the_same(fleet, pair):
    docs, _ = pair
    ask(fleet, "CREATE VIEW public.mine AS SELECT document, embedding FROM embedfleet.docs")
    ask(fleet, "CREATE MATERIALIZED VIEW public.kept AS SELECT document FROM embedfleet.docs")
    with fleet.db.connect() as conn:
        conn.execute("PREPARE found AS SELECT document FROM embedfleet.docs")
        assert [("of docs",)] == conn.execute("EXECUTE found").fetchall()
        conn.commit()
        docs.swap("others")
        assert [("of others",)] == conn.execute("EXECUTE found").fetchall()
    assert [("of others",)] == ask(fleet, "SELECT document FROM public.mine")
    ask(fleet, "REFRESH MATERIALIZED VIEW public.kept")
    assert [("of others",)] == ask(fleet, "SELECT document FROM public.kept")


def test_a_view_of_another_width_is_replaced_and_what_reads_it_is_in_the_way(fleet, docs):
    wide = fleet.collection("wide", model="fake/32")
    ask(fleet, "CREATE VIEW public.mine AS SELECT document FROM embedfleet.docs")
    for refused in (lambda: docs.swap("wide"), lambda: docs.migrate("fake/32")):
        with pytest.raises(NameInUse, match=r"view public\.mine"):
            refused()
    assert ["docs", "wide"] == [each.name for each in fleet.collections()]
    assert "fake/32" == wide.info.space.name
    ask(fleet, "DROP VIEW public.mine")
    ask(
        fleet,
        "CREATE FUNCTION public.takes(embedfleet.docs) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    )
    with pytest.raises(NameInUse, match="takes"):
        docs.swap("wide")
    ask(fleet, "DROP FUNCTION public.takes")
    docs.swap("wide")
    width = "SELECT atttypmod FROM pg_attribute WHERE attname = 'embedding'"
    assert [(32,)] == ask(fleet, f"{width} AND attrelid = 'embedfleet.docs'::regclass")


@pytest.mark.parametrize("other", ["fake/16", "fake/32"])
def test_who_may_read_a_name_reads_what_has_it_now_and_nothing_else(fleet, worker, reader, other):
    docs = fleet.collection("docs", model="fake/16")
    second = fleet.collection("others", model=other)
    for each in (docs, second):
        each.enqueue([ef.Document(f"of {each.name}", f"a text of {each.name}")])
    drain(worker())
    docs.expose()
    docs.grant(reader, view=True)
    docs.swap("others")
    for view, column in (("docs", "document"), ("data_docs", "metadata_->>'document'")):
        rows = as_role(fleet, reader, f"SELECT {column} FROM embedfleet.{view}")
        assert [("of others",)] == rows
    with pytest.raises(ef.errors.NotPermitted):
        as_role(fleet, reader, "SELECT document FROM embedfleet.others")
    former = fleet.collection("others").info
    with pytest.raises(ef.errors.NotPermitted):
        as_role(fleet, reader, f"SELECT content FROM embedfleet.{former.texts}")


@pytest.mark.parametrize("storage", ["vector", "halfvec"])
def test_a_search_that_was_granted_is_one_of_what_has_the_name(fleet, worker, reader, storage):
    docs = fleet.collection("docs", model="fake/16")
    second = fleet.collection("others", model="fake/16", storage=storage, query_prompt="q: ")
    for each in (docs, second):
        each.enqueue([ef.Document(f"of {each.name}", f"a text of {each.name}")])
    drain(worker())
    docs.grant(reader)
    docs.swap("others")
    vector = f"'{[1.0] * 16}'::public.{storage}"
    rows = as_role(fleet, reader, f"SELECT document FROM embedfleet.search_docs({vector})")
    assert [("of others",)] == rows
    assert [] == ask(fleet, "SELECT FROM pg_proc WHERE proname = 'search_others'")
    docs.rename("library")
    rows = as_role(fleet, reader, f"SELECT document FROM embedfleet.search_library({vector})")
    assert [("of others",)] == rows


def test_what_reads_a_collection_goes_on_when_it_is_renamed(fleet, pair, reader):
    docs, _ = pair
    docs.expose()
    docs.grant(reader, view=True)
    ask(fleet, "CREATE VIEW public.mine AS SELECT document FROM embedfleet.docs")
    docs.rename("library")
    assert [("of docs",)] == ask(fleet, "SELECT document FROM public.mine")
    assert [("of docs",)] == as_role(fleet, reader, "SELECT document FROM embedfleet.library")
    assert [(1,)] == as_role(fleet, reader, "SELECT count(*) FROM embedfleet.data_library")
    assert "library" == docs.name
    assert docs.audit().clean


def test_a_name_that_is_taken_or_none_is_refused(fleet, pair):
    docs, others = pair
    for name in ("others", "collection", "Docs", "_docs"):
        with pytest.raises(BadName):
            docs.rename(name)
    with pytest.raises(ModelChangeRefused, match="the same collection"):
        docs.swap("docs")
    assert ["docs", "others"] == [each.name for each in fleet.collections()]
    assert others.audit().clean


def test_the_two_of_a_model_change_keep_their_names_and_stay(fleet, docs, embedding):
    docs.enqueue(documents(3)).wait()
    assert not docs.migrate("fake/32", switch=False).switched
    following = fleet.collection("docs_next")
    assert 3 == len(following.search("text number 1"))
    for refused in (
        lambda: docs.rename("library"),
        lambda: following.swap("docs"),
        docs.drop,
        following.drop,
        lambda: following.enqueue(documents(1)),
        lambda: following.delete(["d1"]),
        lambda: following.migrate("fake/48"),
    ):
        with pytest.raises((InModelChange, ModelChangeRefused)):
            pytest.fail(f"it answered {refused()}")
    with pytest.raises(ModelChangeRefused, match="it changes to fake/32"):
        docs.migrate("fake/48")
    assert ["docs", "docs_next"] == [each.name for each in fleet.collections()]
    docs.migrate_finish()
    assert ["docs"] == [each.name for each in fleet.collections()]
    docs.rename("library")
