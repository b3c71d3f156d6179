"""Tables that the libraries themselves made and filled come in by their database's URL."""

import pytest

MODEL = "fake/16"
COMMON = """
import json, os, sys

url = os.environ["EMBEDFLEET_DATABASE_URL"]
psycopg_url = url.replace("postgresql://", "postgresql+psycopg://", 1)
texts = ["text a", "text b"]
metadatas = [{"lang": "en", "year": 2020}, {"lang": "de", "year": 2021}]
vectors = [[1.0 if place == number else 0.0 for place in range(16)] for number in range(2)]
ids = ["00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000b"]
"""
# It knows no schema: without this, its tables may be in that of a user who is called as ours is.
PGVECTOR = """
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_postgres import PGVector

store = PGVector(
    DeterministicFakeEmbedding(size=16),
    collection_name="one",
    connection=psycopg_url,
    engine_args={"connect_args": {"options": "-csearch_path=public"}},
)
store.add_embeddings(texts, vectors, metadatas, ids)
"""
PGVECTORSTORE = """
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_postgres import Column, PGEngine, PGVectorStore

engine = PGEngine.from_connection_string(psycopg_url)
engine.init_vectorstore_table("store", 16, metadata_columns=[Column("lang", "TEXT")])
store = PGVectorStore.create_sync(
    engine, DeterministicFakeEmbedding(size=16), "store", metadata_columns=["lang"]
)
store.add_embeddings(texts, vectors, metadatas, ids)
"""
LLAMAINDEX = """
from llama_index.core.schema import TextNode
from llama_index.vector_stores.postgres import PGVectorStore

store = PGVectorStore.from_params(
    connection_string=url.replace("postgresql://", "postgresql+psycopg2://", 1),
    async_connection_string=url.replace("postgresql://", "postgresql+asyncpg://", 1),
    table_name="docs", embed_dim=16, use_halfvec=HALFVEC,
)
store.add([
    TextNode(id_=key, text=text, metadata=metadata, embedding=vector)
    for key, text, metadata, vector in zip(ids, texts, metadatas, vectors)
])
"""


@pytest.mark.parametrize(
    ("library", "script", "named"),
    [
        ("langchain_postgres", PGVECTOR, {}),
        ("langchain_postgres", PGVECTORSTORE, {"table": "store"}),
        ("llamaindex", LLAMAINDEX.replace("HALFVEC", "False"), {"table": "data_docs"}),
        ("llamaindex", LLAMAINDEX.replace("HALFVEC", "True"), {"table": "data_docs"}),
    ],
    ids=["PGVector", "PGVectorStore", "LlamaIndex", "LlamaIndex, halfvec"],
)
def test_what_a_library_stored_comes_in(library, script, named, fleet, library_example, tmp_path):
    (tmp_path / "fill.py").write_text(COMMON + script)
    library_example(library, tmp_path / "fill.py")
    docs = fleet.collection("docs", model=MODEL)
    url = fleet.settings.database
    done = docs.import_vectors(url, model=MODEL, **named).enqueued
    assert (2, 0, 2) == (done.documents, done.rejected, done.imported)
    first, second = docs.search([1.0] + [0.0] * 15, k=2)
    assert ("text a", 1.0, "text b") == (first.content, first.score, second.content)
    assert first.document.endswith("000a")
    assert {"lang": "en", "year": 2020}.items() <= first.metadata.items()
    again = docs.import_vectors(url, model=MODEL, **named).enqueued
    assert (0, 2) == (again.documents, again.unchanged)
