"""The vector store for LangChain: its own tests of stores, and what it does beyond them.

Run by test_langchain_store.py in the environment that has LangChain, with a worker beside it.
"""

import os
import sys
from uuid import uuid4

import pytest
from langchain_core.documents import Document
from langchain_tests.integration_tests.vectorstores import VectorStoreIntegrationTests

import embedfleet as ef
from embedfleet.integrations.langchain import EmbedfleetVectorStore

# A model whose vector of a text is the same for a document and a question, as LangChain's tests
# expect it of theirs.
MODEL = {"model": "openai/bench-model", "dimensions": 64, "max_tokens": 100}


@pytest.fixture(scope="module")
def fleet():
    with ef.connect() as opened:
        yield opened


@pytest.fixture
def docs(fleet):
    made = fleet.collection(f"store_{uuid4().hex}", **MODEL)
    yield made
    made.drop()


@pytest.fixture
def vectorstore(docs):
    return EmbedfleetVectorStore(docs)


@pytest.fixture
def filled(vectorstore):
    texts = [f"text {n}" for n in range(12)]
    metadatas = [{"n": n, "lang": ("en", "de")[n % 2]} for n in range(12)]
    vectorstore.add_texts(texts, metadatas, ids=[f"d{n}" for n in range(12)])
    return vectorstore


class TestOfLangChain(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, docs):
        return EmbedfleetVectorStore(docs)


@pytest.mark.parametrize(
    "given",
    [
        {"lang": "en", "n": {"$gte": 4}},
        {"$and": [{"lang": {"$eq": "en"}}, {"n": {"$gte": 4}}]},
        {"lang": {"$nin": ["de"]}, "n": {"$between": [4, 11]}},
        {"lang": "en", "n": {"gte": 4}},
    ],
)
def test_a_filter_is_one_of_theirs_or_one_of_ours(filled, given):
    found = filled.similarity_search("text 1", k=20, filter=given)
    assert {"d4", "d6", "d8", "d10"} == {each.id for each in found}
    retriever = filled.as_retriever(search_kwargs={"k": 20, "filter": given})
    assert found == retriever.invoke("text 1")


def test_what_is_no_operator_is_refused_and_not_left_out(filled):
    with pytest.raises(ef.errors.BadFilter, match=r"\$like is no operator"):
        filled.similarity_search("text 1", filter={"lang": {"$like": "e%"}})
    with pytest.raises(TypeError, match="filters"):
        filled.similarity_search("text 1", filters={"lang": "en"})


def test_scores_and_vectors_are_those_of_a_search(filled, docs):
    hits = docs.search("text 3", k=4)
    scored = filled.similarity_search_with_score("text 3", k=4)
    assert [(hit.document, hit.score) for hit in hits] == [(d.id, score) for d, score in scored]
    by_vector = filled.similarity_search_by_vector(docs.embed_query("text 3").tolist(), k=4)
    assert [document for document, _ in scored] == by_vector
    relevant = filled.similarity_search_with_relevance_scores("text 3", k=4, score_threshold=0.99)
    assert [("d3", pytest.approx(1, abs=1e-5))] == [(d.id, score) for d, score in relevant]


def test_hits_that_differ_are_those_of_diverse(filled, docs):
    hits = docs.diverse("text 3", k=3, weight=0.2, candidates=12, where={"lang": "de"})
    found = filled.max_marginal_relevance_search(
        "text 3", k=3, fetch_k=12, lambda_mult=0.2, filter={"lang": "de"}
    )
    assert [hit.document for hit in hits] == [each.id for each in found]
    vector = docs.embed_query("text 3").tolist()
    assert found == filled.max_marginal_relevance_search_by_vector(
        vector, k=3, fetch_k=12, lambda_mult=0.2, filter={"lang": "de"}
    )
    retriever = filled.as_retriever(search_type="mmr", search_kwargs={"k": 2})
    assert "d3" == retriever.invoke("text 3")[0].id


def test_one_bad_document_is_named_and_the_others_are_found(vectorstore):
    documents = [
        Document("good", id="a"),
        Document("word " * 200, id="too-long"),
        Document("fine", id="b"),
    ]
    with pytest.raises(ef.errors.NotAdded, match=r"1 of 3 documents.*'too-long': \w+, "):
        vectorstore.add_documents(documents)
    assert ["a", "b"] == [each.id for each in vectorstore.get_by_ids(["a", "too-long", "b"])]


async def test_one_bad_document_is_named_by_the_asynchronous_call_too(vectorstore):
    with pytest.raises(ef.errors.NotAdded, match="'x'"):
        await vectorstore.aadd_documents([Document("", id="x"), Document("fine", id="b")])
    assert ["b"] == [each.id for each in await vectorstore.aget_by_ids(["x", "b"])]


def test_a_store_that_does_not_wait_returns_when_all_is_stored(docs):
    store = EmbedfleetVectorStore(docs, wait=False)
    assert ["a"] == store.add_texts(["later"], ids=["a"])
    assert ["a"] == [each.key for each in docs.documents()]
    # What waits for all that is open in the collection.
    EmbedfleetVectorStore(docs).add_texts(["later"], ids=["b"])
    assert {"a", "b"} == {each.id for each in store.get_by_ids(["a", "b"])}


def test_texts_make_a_store_and_no_model_is_passed_by(docs):
    store = EmbedfleetVectorStore.from_texts(["one", "two"], ids=["1", "2"], collection=docs)
    assert ["2"] == [each.id for each in store.similarity_search("two", k=1)]
    with pytest.raises(ef.errors.BadArgument, match="the model of the collection embeds"):
        EmbedfleetVectorStore.from_texts(["one"], object(), collection=docs)
    with pytest.raises(ef.errors.BadArgument, match="as many as there are documents"):
        store.add_documents([Document("one")], ids=["1", "2"])


def test_documents_go_by_a_filter_and_not_all_at_once(filled):
    assert filled.delete(filter={"lang": {"$eq": "de"}})
    assert {"en"} == {each.metadata["lang"] for each in filled.similarity_search("text 1", k=20)}
    with pytest.raises(ef.errors.UsageError, match="drop the collection"):
        filled.delete()
    assert 6 == len(filled.similarity_search("text 1", k=20))


def test_each_chunk_of_a_document_from_elsewhere_is_found_under_its_key(vectorstore, docs):
    docs.enqueue([ef.Document("guide", chunks=["part 0", "part 1"], metadata={"n": 1})]).wait()
    parts = [Document(f"part {n}", id="guide", metadata={"n": 1}) for n in range(2)]
    assert parts == vectorstore.get_by_ids(["guide"])
    assert [parts[1]] == vectorstore.similarity_search("part 1", k=1)


if __name__ == "__main__":
    alone = ["--noconftest", "-c", os.devnull, "--rootdir", os.path.dirname(__file__)]  # noqa: PTH120
    plugins = ["-p", "no:cacheprovider", "-o", "asyncio_mode=auto"]
    sys.exit(pytest.main([__file__, "-q", *alone, *plugins]))
