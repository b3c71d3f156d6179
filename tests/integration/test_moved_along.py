"""What belongs to a collection comes along to another model: its table, template, columns."""

import pytest

import embedfleet as ef
from embedfleet_schema.database_errors import NameInUse
from embedfleet_schema.errors import InModelChange
from plugins.fleets import ask
from plugins.model_changes import working
from plugins.synced_tables import in_table, texts


@pytest.fixture(autouse=True)
def at_work(worker):
    """A worker that takes every batch as it comes."""
    with working(worker):
        yield


def model_of(fleet, name):
    return fleet.collection(name).info.space.name


def followed(fleet, body):
    """Change a row, follow that, and say whether readers see what is in the table."""
    ask(fleet, "UPDATE public.articles SET body = %s WHERE id = 2", body)
    (sync,) = fleet.syncs()
    assert "following" == sync.catch_up().state
    fleet.job(max(job.id for job in fleet.statuses())).wait()
    assert 0 == sync.verify().differences
    return in_table(fleet) == texts(fleet)


def test_a_collection_follows_its_table_under_another_name(fleet, articles):
    articles.catch_up()
    fleet.collection("other", model="fake/8")
    fleet.collection("articles").swap("other")
    ask(fleet, "DELETE FROM public.articles WHERE id = 2")
    (sync,) = fleet.syncs()
    assert "other" == sync.status.name
    sync.catch_up()
    assert (in_table(fleet), {}) == (texts(fleet, "other"), texts(fleet))


def test_a_table_is_followed_through_a_model_change_and_back(fleet, articles):
    articles.catch_up()
    docs = fleet.collection("articles")
    docs.migrate("fake/8", switch=False)
    assert followed(fleet, "before the switch")
    docs.migrate()
    assert "fake/8" == model_of(fleet, "articles")
    assert followed(fleet, "after the switch")
    docs.migrate_back()
    assert "fake/16" == model_of(fleet, "articles")
    assert followed(fleet, "after the way back")
    docs.migrate_finish()
    assert followed(fleet, "at the end")


def test_contexts_come_along_to_another_model_and_the_template_stays_meanwhile(fleet):
    chunking = ef.Chunking(size=40, template="{title}: {content}")
    docs = fleet.collection("docs", model="fake/16", chunking=chunking)
    docs.enqueue([ef.Document("a", "Use the portal.", metadata={"title": "VPN"})])
    docs.migrate("fake/8", switch=False)
    with pytest.raises(InModelChange, match="its template stays until that has ended"):
        docs.set_template("{title} | {content}")
    docs.enqueue([ef.Document("b", "Ask IT.", metadata={"title": "Wifi"})])
    docs.migrate()
    shown = ask(fleet, "SELECT document, context, content FROM embedfleet.docs ORDER BY 1")
    assert [("a", "VPN: ", "Use the portal."), ("b", "Wifi: ", "Ask IT.")] == shown
    assert "{title}: {content}" == fleet.collection("docs").info.template
    assert fleet.collection("docs").audit().clean


def test_columns_of_the_metadata_come_along_to_another_model(fleet):
    docs = fleet.collection("docs", model="fake/16")
    docs.add_column("year", "int")
    docs.enqueue([ef.Document("a", "Use the portal.", metadata={"year": 2024})])
    ask(fleet, "CREATE VIEW public.years AS SELECT document, year FROM embedfleet.docs")
    with pytest.raises(NameInUse, match="years"):
        docs.migrate("fake/8")
    ask(fleet, "DROP VIEW public.years")
    docs.migrate("fake/8", switch=False)
    with pytest.raises(InModelChange, match="its columns stay until that has ended"):
        docs.add_column("lang", "text")
    docs.migrate()
    assert [("a", 2024)] == ask(fleet, "SELECT document, year FROM embedfleet.docs")
    assert ["year"] == [each.name for each in fleet.collection("docs").columns()]


def test_views_of_other_columns_are_made_anew_by_a_swap(fleet):
    one, other = (fleet.collection(name, model="fake/16") for name in ("one", "other"))
    one.add_column("year", "int")
    for each in (one, other):
        each.enqueue([ef.Document("a", f"of {each.name}", metadata={"year": 2024})]).wait()
    one.swap("other")
    assert [("of one", 2024)] == ask(fleet, "SELECT content, year FROM embedfleet.other")
    assert [("of other",)] == ask(fleet, "SELECT content FROM embedfleet.one")


def test_what_follows_another_collection_takes_and_loses_nothing_by_itself(fleet):
    docs = fleet.collection("docs", model="fake/16")
    docs.enqueue([ef.Document("a", "Use the portal.")])
    docs.migrate("fake/8", switch=False)
    follower = fleet.collection("docs_next")
    with pytest.raises(InModelChange, match="takes your documents"):
        follower.erase(["a"])
    ask(fleet, "CREATE TABLE public.notes (id int PRIMARY KEY, body text)")
    with pytest.raises(InModelChange, match="takes your documents"):
        fleet.sync("docs_next", table="public.notes", key="id", text="body")
    assert [] == fleet.syncs()
    docs.migrate()
    assert ["a"] == [each.key for each in docs.documents()]


def test_an_erasure_says_where_the_text_would_come_from_again(fleet, articles):
    articles.catch_up()
    said = "it follows public.articles: what is in a row there is stored again"
    erased = fleet.collection("articles").erase(["1"])
    assert [said] == [each.partition(", so")[0] for each in erased.unproven if "follows" in each]
