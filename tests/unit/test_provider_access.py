"""Each provider by its own proxy, with its own headers, trusting its own certificates."""

import logging

import pytest

from embedfleet_schema.errors import BadSettings
from embedfleet_schema.settings import load_settings
from embedfleet_schema.types import Space
from embedfleet_workers.embedders.api.access import access_to
from embedfleet_workers.embedders.api.factory import ApiEmbedderFactory
from embedfleet_workers.embedding_errors import EmbeddingError
from embedfleet_workers.provider_batches.batch_api import BatchApi, NotDone
from plugins.connect_proxy import PASSWORD, ConnectProxy
from plugins.open_limiter import OpenRegistry
from plugins.provider_dialects import KEY, account_at, set_cloud_credentials

SPACES = {
    "openai": Space("openai", "text-embedding-3-small", 8, 8_191),
    "voyage": Space("voyage", "voyage-4", 8, 32_000),
    "bedrock": Space("bedrock", "amazon.titan-embed-text-v2:0", 8, 8_192),
    "vertex": Space("vertex", "text-embedding-005", 8, 2_048),
}
SECRET = "team-7f3a"  # noqa: S105
each_provider = pytest.mark.parametrize("provider", SPACES)


@pytest.fixture
def proxy():
    started = ConnectProxy()
    yield started
    started.close()


@pytest.fixture(autouse=True)
def no_proxy_of_the_machine(monkeypatch):
    for name in ("NO_PROXY", "no_proxy", "HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def embed(dialect, monkeypatch, tmp_path, tls_front):
    """Embeds over the server of a provider, behind TLS where told so; returns the server."""
    opened = []

    def embed(provider, *, tls=False, **settings):
        server = dialect(provider, 8)
        set_cloud_credentials(monkeypatch, tmp_path, server)
        url = tls_front(server.url, scheme="https") if tls else server.url
        given = {**account_at(server), f"{provider}_base_url": url, "api_timeout_s": 20, **settings}
        api = ApiEmbedderFactory(load_settings(**given), OpenRegistry())
        opened.append(api)
        embedder = api.embedder(SPACES[provider])
        reply = embedder._loop.run(embedder._endpoint.adapter.send(["a text"], "document"))
        return server, reply.result()

    yield embed
    for api in opened:
        api.close()


@each_provider
def test_a_header_is_sent_to_the_provider_that_it_is_for(embed, provider):
    headers = {"*": {"X-All": "all"}, provider: {"X-Team": SECRET}, "mistral": {"X-Other": "no"}}
    server, reply = embed(provider, api_headers=headers)
    (call,) = server.calls
    assert (SECRET, "all") == (call.headers["x-team"], call.headers["x-all"]), reply
    assert "x-other" not in call.headers


@each_provider
def test_a_private_authority_is_trusted_where_it_is_named(embed, provider, authority):
    server, reply = embed(provider, tls=True, api_ca_files={provider: authority.file})
    assert 1 == len(server.calls), reply
    server, reply = embed(provider, tls=True)
    assert ([], True) == (server.calls, "the connection failed" in reply.reason)


@each_provider
def test_a_proxy_with_a_password_leads_to_the_provider(embed, provider, proxy, authority):
    given = {"api_proxies": {provider: proxy.url}, "api_ca_files": {"*": authority.file}}
    server, reply = embed(provider, tls=True, **given)
    assert 1 == len(server.calls), reply
    assert [True] == [asked.startswith("localhost:") for asked in proxy.asked]


@each_provider
def test_no_proxy_wins_over_the_settings(embed, provider, proxy, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    server, reply = embed(provider, api_proxies={"*": proxy.url})
    assert 1 == len(server.calls), reply
    assert ([], 0) == (proxy.asked, proxy.refused)


@each_provider
def test_a_proxy_that_refuses_says_so_without_its_password(embed, provider, proxy, caplog):
    caplog.set_level(logging.DEBUG)
    wrong = proxy.url.replace(PASSWORD, "another-s3cret")
    server, reply = embed(provider, tls=True, api_proxies={provider: wrong})
    assert ([], []) == (server.calls, proxy.asked)
    assert "s3cret" not in str(reply)
    ours = [each.getMessage() for each in caplog.records if each.name.startswith("embedfleet")]
    assert "s3cret" not in " ".join(ours)


def test_the_batch_api_is_reached_in_the_same_way(dialect, proxy):
    server = dialect("openai")
    headers = {"openai": {"X-Team": SECRET}}
    settings = load_settings(
        openai_api_key=KEY,
        openai_base_url=server.url,
        api_proxies={"*": proxy.url},
        api_headers=headers,
    )
    api = BatchApi(settings)
    with pytest.raises(NotDone):
        api.create("file-1", "token")
    api.close()
    assert [f"{server.url}/batches"] == proxy.asked


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"api_headers": {"acme": {"X-A": "b"}}}, "'acme' is no provider with an API"),
        ({"api_headers": {"openai": {"Host": "elsewhere"}}}, "'Host' cannot be an extra header"),
        ({"api_headers": {"openai": {"X A": "b"}}}, "'X A' cannot be an extra header"),
        ({"api_headers": {"openai": {"X-A": f"{SECRET}\n"}}}, "printable ASCII"),
        ({"api_proxies": {"*": f"socks5://u:{SECRET}@proxy"}}, "a proxy is http://host:port"),
        ({"api_proxies": {"*": f"http://u:{SECRET}@:80"}}, "a proxy is http://host:port"),
        ({"api_ca_files": {"google": "/x"}}, "'google' is no provider"),
    ],
)
def test_what_cannot_be_used_is_named_without_its_value(settings, says):
    with pytest.raises(BadSettings, match=says) as raised:
        load_settings(**settings)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_without_certificates_is_named(tmp_path, content):
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    settings = load_settings(openai_api_key=KEY, api_ca_files={"openai": file})
    with pytest.raises(BadSettings, match=r"ca\.pem holds no certificates"):
        ApiEmbedderFactory(settings, OpenRegistry()).embedder(SPACES["openai"])


def test_secrets_are_in_no_representation(proxy):
    settings = load_settings(
        api_headers={"*": {"X-Team": SECRET}}, api_proxies={"openai": proxy.url}
    )
    access = access_to("openai", "https://api.openai.com/v1", settings)
    assert proxy.url == access.proxy
    said = f"{settings!r} {access!r} {settings.model_dump_json()}"
    assert (False, False) == (SECRET in said, PASSWORD in said)
    assert issubclass(EmbeddingError, Exception)
