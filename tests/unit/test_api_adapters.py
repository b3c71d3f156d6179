"""What each adapter sends, and what it needs to be made."""

import sys
from types import SimpleNamespace

import pytest

from embedfleet_schema.errors import ExtraMissing, KeyMissing
from embedfleet_schema.settings import load_settings
from embedfleet_schema.types import Space
from embedfleet_workers.decisions import ELSEWHERE_S, Defer, decide
from embedfleet_workers.embedders import load_embedder
from embedfleet_workers.embedders.api.endpoint import Endpoint, Request
from embedfleet_workers.embedders.api.factory import ApiEmbedderFactory
from embedfleet_workers.embedders.api.providers.adapter import Caps
from embedfleet_workers.embedders.api.token_counts import Calibration, estimate
from embedfleet_workers.embedding_errors import InputAtFault
from plugins.open_limiter import OpenLimiter, OpenRegistry
from plugins.provider_dialects import KEY, factory_to, rate_limited

# A model of each provider at its own width, at another, and what asks for the other.
MODELS = {
    "openai": ("text-embedding-3-small", 1536, 512, "dimensions"),
    "cohere": ("embed-v4.0", 1536, 512, "output_dimension"),
    "voyage": ("voyage-4", 1024, 512, "output_dimension"),
    "jina": ("jina-embeddings-v3", 1024, 512, "dimensions"),
    "mistral": ("codestral-embed", 1536, 512, "output_dimension"),
}


@pytest.fixture
def send(dialect):
    """Embeds over the server of a provider; returns the call that it saw."""
    opened = []

    def send(space, kind="document", texts=("a", "b"), limiter=None, **settings):
        server = dialect(space.provider, space.dimensions)
        api = factory_to(server, limiter, **settings)
        opened.append(api)
        api.embedder(space).embed(list(texts), kind)
        (call,) = server.calls
        return call

    yield send
    for api in opened:
        api.close()


@pytest.mark.parametrize("provider", MODELS)
def test_dimensions_are_asked_for_where_they_are_not_the_models_own(send, provider):
    model, own, other, name = MODELS[provider]
    assert name not in send(Space(provider, model, own, 512)).body
    assert other == send(Space(provider, model, other, 512)).body[name]


def test_gemini_is_asked_for_dimensions_with_each_text(send):
    own = send(Space("gemini", "gemini-embedding-001", 3072, 512)).body["requests"][1]
    assert {"content", "model", "taskType"} == set(own)
    other = send(Space("gemini", "gemini-embedding-001", 768, 512)).body["requests"][1]
    assert (768, "models/gemini-embedding-001") == (other["outputDimensionality"], other["model"])


def test_a_model_that_nobody_knows_is_not_asked_for_dimensions(send):
    call = send(Space("openai", "BAAI/bge-m3", 1024, 512))
    assert {"model": "BAAI/bge-m3", "input": ["a", "b"], "encoding_format": "base64"} == call.body


@pytest.mark.parametrize(
    ("provider", "paths"),
    [
        ("openai", "/embeddings"),
        ("cohere", "/v2/embed"),
        ("voyage", "/v1/embeddings"),
        ("jina", "/v1/embeddings"),
        ("mistral", "/v1/embeddings"),
    ],
)
def test_each_provider_is_called_at_its_path(send, provider, paths):
    model, own, *_ = MODELS[provider]
    assert paths == send(Space(provider, model, own, 512)).path


def test_base64_is_asked_for_where_a_provider_has_it(send):
    for provider, name in (
        ("openai", "encoding_format"),
        ("voyage", "encoding_format"),
        ("mistral", "encoding_format"),
        ("jina", "embedding_type"),
    ):
        model, own, *_ = MODELS[provider]
        assert (provider, "base64") == (
            provider,
            send(Space(provider, model, own, 512)).body[name],
        )


@pytest.mark.parametrize(
    ("provider", "expected"),
    [
        ("openai", {"requests": 1, "tokens": 2}),
        ("cohere", {"requests": 1, "inputs": 2, "tokens": 2}),
        ("voyage", {"requests": 1, "tokens": 2}),
        ("jina", {"requests": 1, "tokens": 2}),
        ("mistral", {"requests": 1, "tokens": 2}),
    ],
)
def test_a_request_costs_what_the_providers_quota_counts(send, provider, expected):
    limiter = OpenLimiter()
    model, own, *_ = MODELS[provider]
    send(Space(provider, model, own, 512), limiter=limiter)
    assert expected == limiter.told[0].costs


def test_gemini_counts_each_text_as_a_request(send):
    limiter = OpenLimiter()
    send(Space("gemini", "gemini-embedding-001", 3072, 512), limiter=limiter, texts="abcde")
    assert {"requests": 5, "tokens": 5} == limiter.told[0].costs


def test_azure_is_called_by_deployment_and_its_request_limit_is_not_believed(dialect):
    server = dialect("openai", 8)
    server.dialect.authorized = lambda headers: headers.get("api-key") == KEY
    server.headers = {
        "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-requests": "9",
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "900",
    }
    limiter = OpenLimiter()
    api = factory_to(server, limiter, openai_api_version="2024-10-21")
    server.script(
        rate_limited(**{name.replace("-", "_"): it for name, it in server.headers.items()})
    )
    api.embedder(Space("openai", "my-deployment", 8, 512)).embed(["a"], "document")
    api.close()
    call = server.calls[-1]
    assert "/openai/deployments/my-deployment/embeddings?api-version=2024-10-21" == call.path
    assert ["rate_limited", "settled"] == limiter.ends()
    for told in limiter.told:
        assert ({"tokens": 1000}, {"tokens": 900}) == (told.reading.limits, told.reading.remaining)


def test_a_server_of_ones_own_needs_no_key(dialect):
    server = dialect("openai", 8)
    server.dialect.authorized = lambda headers: KEY not in str(headers)
    api = ApiEmbedderFactory(load_settings(openai_base_url=server.url), OpenRegistry())
    api.embedder(Space("openai", "bge-m3", 8, 512)).embed(["a"], "document")
    api.close()
    assert [["a"]] == server.texts()


@pytest.mark.parametrize("provider", [*MODELS, "gemini"])
def test_a_missing_key_names_the_variable_and_leaves_the_work_to_others(monkeypatch, provider):
    for name in ("OPENAI", "CO", "COHERE", "VOYAGE", "GEMINI", "GOOGLE", "JINA", "MISTRAL"):
        monkeypatch.delenv(f"{name}_API_KEY", raising=False)
    api = ApiEmbedderFactory(load_settings(), OpenRegistry())
    variable = f"EMBEDFLEET_{provider.upper()}_API_KEY"
    with pytest.raises(KeyMissing, match=variable) as raised:
        load_embedder(Space(provider, "m", 8, 512), device="cpu", api=api)
    assert Defer(ELSEWHERE_S, keeps_place=True) == decide(
        raised.value, texts=2, errors=0, max_attempts=5
    )


def test_azure_needs_a_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    settings = load_settings(openai_base_url="https://me.azure.com", openai_api_version="1")
    with pytest.raises(KeyMissing):
        ApiEmbedderFactory(settings, OpenRegistry()).embedder(Space("openai", "d", 8, 512))


@pytest.mark.parametrize(
    ("module", "provider"), [("openai", "openai"), ("httpx2", "cohere"), ("httpx2", "openai")]
)
def test_a_missing_extra_is_named_with_the_command_that_installs_it(monkeypatch, module, provider):
    monkeypatch.setitem(sys.modules, module, None)
    api = ApiEmbedderFactory(load_settings(**{f"{provider}_api_key": KEY}), OpenRegistry())
    with pytest.raises(ExtraMissing, match=r"pip install 'embedfleet\[api\]'"):
        api.embedder(Space(provider, "m", 8, 512))


def test_two_keys_and_two_servers_are_different_accounts_and_no_key_is_shown():
    accounts = []
    for settings in (
        {"openai_api_key": KEY},
        {"openai_api_key": "another"},
        {"openai_api_key": KEY, "openai_base_url": "http://127.0.0.1:1"},
    ):
        factory = ApiEmbedderFactory(load_settings(**settings), OpenRegistry())
        accounts.append(factory.embedder(Space("openai", "m", 8, 512))._endpoint.account)
    assert 3 == len(set(accounts))
    assert not any(KEY in account for account in accounts)


def whole(tokens):
    return Request(range(len(tokens)), [str(n) for n in range(len(tokens))], tokens)


@pytest.mark.parametrize(
    ("tokens", "inputs", "most", "expected"),
    [
        ([], 3, None, []),
        ([5] * 7, 3, None, [3, 3, 1]),
        ([5] * 7, 10, 11, [2, 2, 2, 1]),
        ([50, 1, 1, 50], 10, 11, [1, 2, 1]),
        ([4, 4, 4], 10, 12, [3]),
    ],
)
def test_texts_are_cut_by_both_limits_and_one_beyond_them_goes_alone(
    tokens, inputs, most, expected
):
    registry = OpenRegistry(OpenLimiter(most_tokens=most))
    adapter = SimpleNamespace(caps=Caps(inputs))
    endpoint = Endpoint(Space("openai", "m", 8, 512), adapter, "account", registry, 60.0)
    requests, rest = [], whole(tokens)
    while rest.rows:
        request, rest = endpoint.take(rest)
        requests.append(request)
    assert expected == [len(request.rows) for request in requests]
    assert list(range(len(tokens))) == [row for request in requests for row in request.rows]


def test_estimates_follow_the_length_in_bytes():
    assert [0, 1, 2, 3] == estimate(["", "abc", "abcde", "日本語"])
    with pytest.raises(InputAtFault):
        estimate(["\ud83e"])


def test_a_calibration_comes_near_what_answers_state():
    calibration = Calibration()
    assert [10, 1] == calibration.scaled([10, 0])
    for _ in range(60):
        calibration.learn(10_000, 15_000)
    assert [150] == calibration.scaled([100])
    calibration.learn(3, 300)
    assert [150] == calibration.scaled([100])


def test_a_calibration_stays_sane():
    calibration = Calibration()
    for _ in range(60):
        calibration.learn(1, 10**9)
    calibration.learn(0, 5)
    calibration.learn(5, 0)
    assert [500] == calibration.scaled([100])
