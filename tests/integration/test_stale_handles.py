"""A handle belongs to the collection that it was made for, not to another one of its name."""

import asyncio
import inspect

import psycopg
import pytest
from psycopg import sql

import embedfleet as ef
from embedfleet_schema.errors import CollectionGone, ModelChanged, UnknownJob
from embedfleet_schema.store import search
from plugins.fleets import drain

NEW = [ef.Document("b", "another text")]
VECTOR = [1.0] * 16
CALLS = {
    "enqueue": lambda docs: docs.enqueue(NEW),
    "aenqueue": lambda docs: asyncio.run(docs.aenqueue(NEW)),
    "plan": lambda docs: docs.plan([]),
    "plan_template": lambda docs: docs.plan_template("{key} {content}"),
    "set_template": lambda docs: docs.set_template("{key} {content}"),
    "search": lambda docs: docs.search(VECTOR),
    "asearch": lambda docs: asyncio.run(docs.asearch("question", k=600, where={"lang": "en"})),
    "hybrid_search": lambda docs: docs.hybrid_search("question"),
    "chunks": lambda docs: docs.chunks(["b"]),
    "diverse": lambda docs: docs.diverse("question"),
    "similar": lambda docs: docs.similar("b"),
    "duplicates": lambda docs: docs.duplicates(),
    "eval": lambda docs: docs.eval(),
    "compare": lambda docs: docs.compare(["fake/32"]),
    "embed_query": lambda docs: docs.embed_query("question"),
    "search_sql": lambda docs: docs.search_sql(),
    "search_script": lambda docs: docs.search_script(VECTOR),
    "documents": lambda docs: docs.documents(),
    "delete": lambda docs: docs.delete(["b"]),
    "delete_matching": lambda docs: docs.delete_matching(prefix="b"),
    "erase": lambda docs: docs.erase(["b"]),
    "clear_failures": lambda docs: docs.clear_failures(),
    "audit": lambda docs: docs.audit(repair=True),
    "failures": lambda docs: docs.failures(),
    "explain": lambda docs: docs.explain("b"),
    "retry": lambda docs: docs.retry(),
    "index": lambda docs: docs.index(),
    "index_memory": lambda docs: docs.index_memory(),
    "rebuild_index": lambda docs: docs.rebuild_index(),
    "drop_index": lambda docs: docs.drop_index(),
    "follow_load": lambda docs: docs.follow_load(),
    "set_index": lambda docs: docs.set_index(ef_search=100, policy="auto"),
    "index_info": lambda docs: docs.index_info(),
    "recall": lambda docs: docs.recall(),
    "index_filters": lambda docs: docs.index_filters(),
    "index_field": lambda docs: docs.index_field("year"),
    "columns": lambda docs: docs.columns(),
    "add_column": lambda docs: docs.add_column("year", "int"),
    "remove_column": lambda docs: docs.remove_column("year"),
    "of_another_type": lambda docs: docs.of_another_type(),
    "index_words": lambda docs: docs.index_words("simple"),
    "counts": lambda docs: docs.counts(),
    "export": lambda docs: docs.export("docs.csv"),
    "import_vectors": lambda docs: docs.import_vectors("docs.csv"),
    "table": lambda docs: docs.table(),
    "expose": lambda docs: docs.expose(),
    "unexpose": lambda docs: docs.unexpose(),
    "migrate": lambda docs: docs.migrate("fake/24"),
    "migrate_plan": lambda docs: docs.migrate_plan("fake/24"),
    "model_change": lambda docs: docs.model_change(),
    "migrate_back": lambda docs: docs.migrate_back(),
    "migrate_finish": lambda docs: docs.migrate_finish(),
    "rename": lambda docs: docs.rename("others"),
    "swap": lambda docs: docs.swap("docs"),
    "drop": lambda docs: docs.drop(cascade=True),
    "grant": lambda docs: docs.grant("pg_monitor"),
    "revoke": lambda docs: docs.revoke("pg_monitor"),
}
OF_JOBS = {
    "status": lambda job: job.status,
    "failures": lambda job: job.failures,
    "webhook": lambda job: job.webhook,
    "wait": lambda job: job.wait(timeout_s=1),
    "wait_async": lambda job: asyncio.run(job.wait_async(timeout_s=1)),
    "pause": lambda job: job.pause(),
    "resume": lambda job: job.resume(),
    "cancel": lambda job: job.cancel(),
}


def public(kind):
    return {name for name, _ in inspect.getmembers(kind) if not name.startswith("_")}


def test_all_that_is_public_is_asked_here():
    # To read hits again asks nothing of the collection.
    assert set(CALLS) == public(ef.Collection) - {"name", "reranked"}
    assert set(OF_JOBS) == public(ef.Job)


@pytest.fixture(params=[None, "fake/16", "fake/32", "halfvec"])
def gone(request, fleet, worker):
    """A handle of a collection that was dropped, its job, and the next collection of its name."""
    stale = fleet.collection("docs", model="fake/16")
    job = stale.enqueue([ef.Document("a", "text")])
    fleet.collection("docs").drop()
    if request.param is None:
        return stale, job, None
    halfvec = request.param == "halfvec"
    model, storage = ("fake/16", "halfvec") if halfvec else (request.param, None)
    new = fleet.collection("docs", model=model, storage=storage)
    new.enqueue([ef.Document("b", "text"), ef.Document("c", "")])
    drain(worker())
    return stale, job, new


def seen(docs):
    hits = docs.search("question")
    documents = [(each.key, each.live) for each in docs.documents()]
    return hits, documents, docs.counts(), docs.failures()


def test_every_call_says_that_its_collection_is_gone_and_leaves_the_next_one_alone(gone):
    stale, _, new = gone
    before = seen(new) if new is not None else None
    for name, call in CALLS.items():
        with pytest.raises(CollectionGone, match="'docs' was dropped"):
            pytest.fail(f"{name} answered {call(stale)}")
    assert before == (seen(new) if new is not None else None)


def test_what_is_searched_is_not_dropped_and_made_anew_before_its_end(fleet):
    docs = fleet.collection("docs", model="fake/16")
    with fleet.db.connect() as conn, fleet.db.connect() as other:
        conn.execute("BEGIN")
        conn.execute(search.own(docs.info) + sql.SQL(" SELECT 1"))
        for name in (docs.name, docs.info.vectors):
            with pytest.raises(psycopg.errors.LockNotAvailable), other.transaction():
                other.execute(f"LOCK embedfleet.{name} IN ACCESS EXCLUSIVE MODE NOWAIT")
        conn.execute("ROLLBACK")


def test_a_job_ends_with_its_collection(gone):
    _, job, _ = gone
    for name, call in OF_JOBS.items():
        with pytest.raises(UnknownJob, match="dropped with its collection"):
            pytest.fail(f"{name} answered {call(job)}")


def test_a_handle_goes_on_with_what_has_its_name_now(fleet, worker):
    """Also where the name was given to another collection after it was opened."""
    stale, other = (fleet.collection(name, model="fake/16") for name in ("docs", "others"))
    stale.enqueue([ef.Document("a", "text")])
    other.enqueue([ef.Document("b", "another text"), ef.Document("c", "a third")])
    drain(worker())
    fleet.collection("docs").swap("others")
    assert {"b", "c"} == {hit.document for hit in stale.search("question")}
    assert 2 == stale.counts().documents
    assert ["a"] == [each.key for each in other.documents()]
    fleet.collection("others").rename("archive")
    assert ["a"] == [each.key for each in other.documents()]
    assert "archive" == other.name


def test_a_vector_of_a_former_model_is_refused_once_another_one_serves(fleet, worker):
    """Both are of one width, so the database could not tell them apart by that."""
    stale = fleet.collection("docs", model="fake/16")
    other = fleet.collection("others", model="fake/16", query_prompt="query: ")
    for each in (stale, other):
        each.enqueue([ef.Document("a", "text")])
    drain(worker())
    fleet.collection("docs").swap("others")
    with pytest.raises(ModelChanged, match="another model by now"):
        stale.search(VECTOR)
    assert ["a"] == [hit.document for hit in stale.search("question")]
    assert "query: " == stale.info.space.query_prompt
