"""Bedrock and Vertex: what their official clients send to a server, and what becomes of answers."""

import asyncio
import json

import pytest

from embedfleet_schema.errors import AccountMissing
from embedfleet_schema.settings import load_settings
from embedfleet_schema.types import Space
from embedfleet_workers.embedders.api.factory import ApiEmbedderFactory
from embedfleet_workers.embedders.api.providers import bedrock_api
from embedfleet_workers.embedders.api.providers.adapter import (
    Answer,
    Faulty,
    RateLimited,
    Rejected,
    TooLarge,
)
from embedfleet_workers.embedders.api.providers.bedrock_errors import refusal
from embedfleet_workers.embedding_errors import InputAtFault
from embedfleet_workers.stop import Stop
from plugins.open_limiter import OpenRegistry
from plugins.provider_dialects import (
    KEY,
    Bedrock,
    Misdeed,
    Vertex,
    account_at,
    expected_vectors,
    factory_to,
    set_cloud_credentials,
)

TITAN = Space("bedrock", "amazon.titan-embed-text-v2:0", 8, 8_192)
COHERE = Space("bedrock", "cohere.embed-english-v3", 1024, 512)
COHERE_4 = Space("bedrock", "eu.cohere.embed-v4:0", 256, 128_000)
TEXT_005 = Space("vertex", "text-embedding-005", 768, 2_048)
GEMINI = Space("vertex", "gemini-embedding-001", 8, 2_048)


@pytest.fixture
def opened(dialect, monkeypatch, tmp_path):
    """A provider, and access to it with credentials that are good for nothing else."""
    made = []

    def open_(space, **settings):
        server = dialect(space.provider, space.dimensions)
        set_cloud_credentials(monkeypatch, tmp_path, server)
        made.append(factory_to(server, **settings))
        return server, made[-1].embedder(space)

    yield open_
    for api in made:
        api.close()


def reply_of(embedder, text="a text"):
    send = embedder._endpoint.adapter.send([text], "document")
    return embedder._loop.run(send).result()


def test_titan_gets_one_text_with_each_request(opened):
    server, embedder = opened(TITAN)
    texts = ["one", "two", "three"]
    vectors = embedder.embed(texts, "document")
    assert (abs(vectors - expected_vectors(texts, "document", 8)) < 1e-6).all()
    assert [["one"], ["three"], ["two"]] == sorted(server.texts())
    call = server.calls[0]
    assert "/model/amazon.titan-embed-text-v2%3A0/invoke" == call.path
    assert {"inputText", "dimensions"} == call.body.keys()


def test_cohere_on_bedrock_gets_96_with_their_kind(opened):
    server, embedder = opened(COHERE)
    embedder.embed([f"text {n}" for n in range(100)], "query")
    assert [4, 96] == sorted(map(len, server.texts()))
    first = server.calls[0].body
    assert ("search_query", "END") == (first["input_type"], first["truncate"])
    assert "output_dimension" not in first
    embedder.embed(["é" * 3_000], "document")
    assert ["é" * 2_048] == server.texts()[-1]


def test_a_model_across_regions_is_called_by_its_whole_name(opened):
    server, embedder = opened(COHERE_4)
    embedder.embed(["a"], "document")
    (call,) = server.calls
    assert "/model/eu.cohere.embed-v4%3A0/invoke" == call.path
    assert ("RIGHT", 256) == (call.body["truncate"], call.body["output_dimension"])


def test_text_models_of_vertex_get_several_texts_and_gemini_one(opened):
    server, embedder = opened(TEXT_005)
    embedder.embed(["one", "two"], "document")
    (call,) = server.calls
    place = "/v1beta1/projects/a-project/locations/us-central1/publishers/google/models/"
    assert f"{place}text-embedding-005:predict" == call.path
    assert ["one", "two"] == call.texts
    gemini, embedder = opened(GEMINI)
    embedder.embed(["one", "two"], "query")
    assert [["one"], ["two"]] == sorted(gemini.texts())
    assert gemini.calls[0].path.endswith("gemini-embedding-001:embedContent")


def test_a_token_is_fetched_once_and_from_nowhere_else(opened):
    server, embedder = opened(TEXT_005)
    for _ in range(3):
        embedder.embed(["one"], "document")
    assert (1, 3) == (server.tokens, len(server.calls))


@pytest.mark.parametrize("space", [TITAN, COHERE, TEXT_005, GEMINI], ids=lambda space: space.name)
def test_an_empty_text_is_at_fault_alone(opened, space):
    _, embedder = opened(space)
    answered = []

    def embed():
        for part in embedder.parts(["one", "", "two"], "document"):
            answered.extend(part.rows)

    with pytest.raises(InputAtFault):
        embed()
    assert [0, 2] == sorted(answered)


AMAZON = Bedrock().error
DENIED = "User: arn:aws:iam::123456789012:user/x is not authorized to perform: bedrock:InvokeModel"
# What users of the official clients report, word for word where it matters.
SAID = [
    (AMAZON(429, "ThrottlingException", "Too many requests, please wait."), RateLimited(None)),
    (AMAZON(429, "ThrottlingException", "Too many tokens per day, please wait"), RateLimited(600)),
    (AMAZON(400, "ServiceQuotaExceededException", "Your request exceeds it"), RateLimited(None)),
    (AMAZON(424, "ModelErrorException", "an error while processing the model"), Faulty),
    (AMAZON(408, "ModelTimeoutException", "took too long"), Faulty),
    (AMAZON(429, "ModelNotReadyException", "is not ready"), Faulty),
    (AMAZON(503, "ServiceUnavailableException", "try again"), Faulty),
    (AMAZON(403, "AccessDeniedException", DENIED), ("AccessDeniedException", False)),
    (AMAZON(403, "ExpiredTokenException", "expired"), ("ExpiredTokenException", True)),
    (AMAZON(403, "UnrecognizedClientException", "x"), ("UnrecognizedClientException", True)),
    (AMAZON(400, "ValidationException", "The provided model identifier is invalid."),
     ("model_not_found", False)),
    (AMAZON(400, "ValidationException", "Invocation of model ID cohere.embed-v4:0 with on-demand "
     "throughput isn\u2019t supported. Retry your request with an inference profile"),
     ("model_not_found", False)),
    (AMAZON(404, "ResourceNotFoundException", "end of its life"), ("model_not_found", False)),
    (AMAZON(400, "ValidationException", "400 Bad Request: Too many input tokens. Max input tokens: "
     "8192, request input token count: 9000"), Rejected),
    (AMAZON(400, "ValidationException", "#/texts: expected maxItems: 96, found: 97"), TooLarge),
    (Misdeed(reset=True), Faulty),
]  # fmt: skip


def test_each_refusal_of_bedrock_is_what_it_means_and_is_sent_once(opened):
    server, embedder = opened(TITAN)
    for misdeed, expected in SAID:
        server.script(misdeed)
        before = len(server.calls)
        reply = reply_of(embedder)
        # The client's own retries would pass the fleet's limit by.
        assert 1 == len(server.calls) - before, misdeed
        if isinstance(expected, tuple):
            assert isinstance(reply, Stop), misdeed
            assert expected == (reply.code, reply.whole_account)
        elif isinstance(expected, RateLimited):
            assert expected == reply, misdeed
        else:
            assert isinstance(reply, expected), (misdeed, reply)
        assert "123456789012" not in str(reply)


GOOGLE = Vertex().error


@pytest.mark.parametrize(
    ("misdeed", "expected"),
    [
        (GOOGLE(429, "RESOURCE_EXHAUSTED", "Quota exceeded for online_prediction"), RateLimited),
        (GOOGLE(503, "UNAVAILABLE", "The service is currently unavailable."), Faulty),
        (GOOGLE(500, "INTERNAL", "Internal error encountered."), Faulty),
        (GOOGLE(403, "PERMISSION_DENIED", "Vertex AI API has not been used in project"), Stop),
        (GOOGLE(404, "NOT_FOUND", "Publisher Model was not found"), Stop),
        (GOOGLE(400, "INVALID_ARGUMENT", "The text content is empty."), Rejected),
        # Where a region takes five, or a model fewer than the page says.
        (
            GOOGLE(400, "INVALID_ARGUMENT", "5 instance(s) is allowed per prediction. Actual: 6"),
            TooLarge,
        ),
        (
            GOOGLE(
                400,
                "INVALID_ARGUMENT",
                "Unable to submit request because it included too many instances.",
            ),
            TooLarge,
        ),
        (
            GOOGLE(
                400,
                "INVALID_ARGUMENT",
                "Unable to submit request because the input token count "
                "is 22000 but the model supports up to 20000.",
            ),
            TooLarge,
        ),
        (Misdeed(200, body=b"{}"), Answer),
        (Misdeed(200, body=b"[1"), Faulty),
        (Misdeed(reset=True), Faulty),
    ],
)
def test_each_refusal_of_vertex_is_what_it_means_and_is_sent_once(opened, misdeed, expected):
    server, embedder = opened(TEXT_005)
    server.script(misdeed)
    reply = reply_of(embedder)
    assert isinstance(reply, expected), reply
    assert 1 == len(server.calls)
    if expected is Answer:
        assert () == tuple(reply.items)


def test_a_wide_fan_out_leaves_the_loop_to_others(opened):
    """More requests than there are threads wait, and something else runs meanwhile."""
    server, embedder = opened(TITAN)
    server.plan = lambda call: Misdeed(stall=True)
    adapter = embedder._endpoint.adapter

    async def fan_out():
        under_way = [
            asyncio.create_task(adapter.send([f"text {n}"], "document")) for n in range(200)
        ]
        turns = 0
        while len(server.calls) < bedrock_api.THREADS:
            await asyncio.sleep(0.01)
            turns += 1
        server.plan = lambda call: None
        server.released.set()
        return turns, await asyncio.gather(*under_way)

    turns, replies = embedder._loop.run(fan_out()).result()
    assert turns > 0
    assert {Answer} == set(map(type, replies))
    assert 200 == len(server.calls)


def test_what_is_not_set_is_named(monkeypatch, tmp_path, dialect):
    set_cloud_credentials(monkeypatch, tmp_path, dialect("vertex"))
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "GOOGLE_CLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    api = ApiEmbedderFactory(load_settings(), OpenRegistry())
    with pytest.raises(AccountMissing, match="EMBEDFLEET_BEDROCK_REGION"):
        api.embedder(TITAN)
    with pytest.raises(AccountMissing, match="EMBEDFLEET_VERTEX_PROJECT"):
        api.embedder(GEMINI)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    api = ApiEmbedderFactory(load_settings(bedrock_region="eu-central-1"), OpenRegistry())
    with pytest.raises(AccountMissing, match="credentials"):
        api.embedder(TITAN)


def test_no_key_is_in_what_is_said_of_missing_credentials():
    from botocore.exceptions import CredentialRetrievalError

    said = refusal(CredentialRetrievalError(provider="x", error_msg=KEY))
    assert isinstance(said, Stop)
    assert KEY not in json.dumps([said.code, said.reason])
    assert "bedrock_region" in account_at(type("S", (), {"dialect": Bedrock(), "url": "http://x"}))
