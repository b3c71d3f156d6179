"""`search --rerank`: the best hits in another order, with both scores."""

import json

import pytest

import embedfleet as ef
from embedfleet.fleet import Fleet
from embedfleet_schema.errors import BadModelName, ModelRefused, UsageError
from embedfleet_schema.settings import load_settings
from embedfleet_schema.types import Document
from plugins.fleets import drain
from plugins.provider_dialects import KEY

TEXTS = ["boil an egg slowly", "an egg is boiled", *(f"another text {n}" for n in range(20))]
QUERY = "boil an egg"


@pytest.fixture
def filled(fleet, worker, rerank_server):
    """A collection, in a fleet that has Cohere's key."""
    docs = fleet.collection("docs", model="fake/16")
    docs.enqueue([Document(f"d{n}", text) for n, text in enumerate(TEXTS)])
    drain(worker())
    given = {"cohere_api_key": KEY, "cohere_base_url": rerank_server.url}
    servers = {"database_url": fleet.settings.database, "redis_url": fleet.settings.redis}
    with Fleet(load_settings(**servers, **given)) as other:
        yield other.collection("docs")


def test_a_search_is_reranked_over_more_than_it_gives(filled, rerank_server):
    hits = filled.search(QUERY, k=2, rerank="cohere/rerank-v3.5")
    assert {"d0", "d1"} >= {hits[0].document}
    assert [1.0, 2 / 3] == [pytest.approx(hit.rerank_score) for hit in hits]
    ((_, body),) = rerank_server.asked
    assert sorted(TEXTS) == sorted(body["documents"])
    assert isinstance(hits[0], ef.RerankedHit)
    # With the score of the search beside it.
    plain = {hit.document: hit.score for hit in filled.search(QUERY, k=50)}
    assert [plain[hit.document] for hit in hits] == [hit.score for hit in hits]


def test_few_candidates_and_other_searches_can_be_reranked(filled, rerank_server):
    hits = filled.search(QUERY, k=3, rerank="cohere/rerank-v3.5", rerank_top=1)
    assert (3, 3) == (len(hits), len(rerank_server.asked[0][1]["documents"]))
    found = filled.reranked(QUERY, filled.hybrid_search(QUERY, k=5), "cohere/rerank-v3.5")
    assert "d0" == found[0].document


def test_what_cannot_rerank_is_named(filled):
    with pytest.raises(BadModelName, match=r"local cross-encoders, and cohere/\.\.\., voyage"):
        filled.search(QUERY, rerank="openai/text-embedding-3-small")
    with pytest.raises(UsageError):
        filled.search(filled.embed_query(QUERY), rerank="cohere/rerank-v3.5")
    filled._connections.settings = filled._connections.settings.model_copy(
        update={"allowed_models": ["local/*"]}
    )
    with pytest.raises(ModelRefused, match=r"only local/\*"):
        filled.search(QUERY, rerank="cohere/rerank-v3.5")


def test_the_command_shows_both_scores(filled, rerank_server, command, monkeypatch):
    monkeypatch.setenv("CO_API_KEY", KEY)
    monkeypatch.setenv("EMBEDFLEET_COHERE_BASE_URL", rerank_server.url)
    asked = ("search", "docs", QUERY, "-k", 1, "--rerank", "cohere/rerank-v3.5")
    answer = command(*asked)
    assert answer.code == 0, answer
    assert answer.out.startswith("1.000  ")
    (hit,) = json.loads(command(*asked, "--json").out)
    assert ("d0", 1.0) == (hit["document"], hit["rerank_score"])
    assert 2 == command(*asked, "--sql").code
