"""Rerankers by themselves: what they are sent, and what an answer or a refusal becomes."""

import json

import pytest

from embedfleet_schema.errors import KeyMissing, ModelRefused
from embedfleet_schema.settings import load_settings
from embedfleet_workers.embedders.api.factory import ApiEmbedderFactory
from embedfleet_workers.embedding_errors import RerankFailed
from embedfleet_workers.rerankers.api_reranker import TRIES
from plugins.open_limiter import OpenLimiter, OpenRegistry
from plugins.provider_dialects import KEY
from plugins.random_models import bert, saved
from plugins.rerank_servers import fit, saved_cross_encoder

QUERY = "boil an egg"
TEXTS = ["read a zip file", "boil an egg slowly", "an egg", "", "an egg, an egg " * 200]
MODELS = {"cohere": "rerank-v3.5", "voyage": "rerank-2.5"}
each_provider = pytest.mark.parametrize("provider", MODELS)


@pytest.fixture
def opened(rerank_server):
    made = []

    def open_(provider, limiter=None, key=KEY):
        account = {f"{provider}_api_key": key, f"{provider}_base_url": rerank_server.url}
        made.append(ApiEmbedderFactory(load_settings(**account), OpenRegistry(limiter)))
        return made[-1].reranker(provider, MODELS[provider])

    yield open_
    for each in made:
        each.close()


@each_provider
def test_scores_come_back_in_the_order_of_the_texts(opened, rerank_server, provider):
    reranker = opened(provider)
    assert [fit(QUERY, text) for text in TEXTS] == reranker.scores(QUERY, TEXTS)
    ((path, body),) = rerank_server.asked
    assert {"cohere": "/v2/rerank", "voyage": "/v1/rerank"}[provider] == path
    assert (QUERY, TEXTS, MODELS[provider]) == (body["query"], body["documents"], body["model"])
    assert [] == reranker.scores(QUERY, [])
    assert 1 == len(rerank_server.asked)


def test_it_draws_on_the_limit_of_the_fleet_before_the_workers(opened):
    limiter = OpenLimiter()
    opened("voyage", limiter).scores(QUERY, TEXTS)
    (told,) = limiter.told
    assert ("interactive", "settled") == (told.lane, told.end)
    assert {"requests": 1, "tokens": 77} == told.actual
    assert told.costs["tokens"] > 0


@each_provider
def test_a_429_and_a_fault_are_tried_again_and_told_to_the_limiter(opened, rerank_server, provider):
    limiter = OpenLimiter()
    rerank_server.script = [(429, b"{}"), (503, b"{}"), (200, b"[")]
    assert len(TEXTS) == len(opened(provider, limiter).scores(QUERY, TEXTS))
    assert ["rate_limited", "failed", "failed", "settled"] == limiter.ends()


@pytest.mark.parametrize(
    "listed",
    [
        [],
        [{"index": 0, "relevance_score": 1.0}] * 2,
        [{"index": 0, "relevance_score": 1.0}, {"index": 2, "relevance_score": 1.0}],
        [{"index": 0, "relevance_score": float("nan")}, {"index": 1, "relevance_score": 1.0}],
        [{"index": 0}, {"index": 1}],
    ],
)
def test_an_answer_that_does_not_score_each_text_is_not_used(opened, rerank_server, listed):
    rerank_server.script = [(200, json.dumps({"results": listed}).encode())] * TRIES
    with pytest.raises(RerankFailed, match="again and again"):
        opened("cohere").scores(QUERY, ["one", "two"])
    assert TRIES == len(rerank_server.asked)


def test_a_refusal_is_said_at_once_without_text_or_key(opened, rerank_server):
    quoting = json.dumps({"message": f"bad document: {TEXTS[1]} for {KEY}"}).encode()
    rerank_server.script = [(400, quoting)]
    with pytest.raises(RerankFailed, match=r"cohere/rerank-v3\.5 gave no scores: it answered 400"):
        opened("cohere").scores(QUERY, TEXTS)
    assert 1 == len(rerank_server.asked)
    with pytest.raises(RerankFailed, match="it answered 401") as raised:
        opened("cohere", key="another-key").scores(QUERY, TEXTS)
    assert "another-key" not in str(raised.value)
    with pytest.raises(RerankFailed, match="no Unicode"):
        opened("cohere").scores(QUERY, ["\ud83e"])


def test_a_key_that_is_missing_is_named():
    api = ApiEmbedderFactory(load_settings(), OpenRegistry())
    with pytest.raises(KeyMissing, match="EMBEDFLEET_VOYAGE_API_KEY"):
        api.reranker("voyage", "rerank-2.5")


@pytest.mark.torch
def test_a_cross_encoder_gives_what_sentence_transformers_gives(tmp_path):
    from sentence_transformers import CrossEncoder
    from torch.nn import Identity

    from embedfleet_workers.rerankers.local_reranker import LocalReranker

    folder = saved_cross_encoder(tmp_path)
    plain = CrossEncoder(str(folder), device="cpu", activation_fn=Identity())
    expected = plain.predict([(QUERY, text) for text in TEXTS], show_progress_bar=False)
    reranker = LocalReranker(str(folder))
    assert expected.tolist() == pytest.approx(reranker.scores(QUERY, TEXTS), abs=1e-6)
    assert [] == reranker.scores(QUERY, [])
    with pytest.raises(RerankFailed):
        reranker.scores(QUERY, ["\ud83e"])


@pytest.mark.torch
def test_what_is_no_reranker_is_refused(tmp_path):
    from embedfleet_workers.rerankers.local_reranker import LocalReranker

    with pytest.raises(ModelRefused, match="gives 3 scores for a pair"):
        LocalReranker(str(saved_cross_encoder(tmp_path / "three", labels=3)))
    embedding = saved(tmp_path, bert()).parent / "backbone"
    with pytest.raises(ModelRefused, match="lacks weights of a reranker"):
        LocalReranker(str(embedding))
