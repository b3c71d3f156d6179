"""Plain http:// to a provider: on this machine and in private networks, not over the internet."""

import pytest

from embedfleet_schema.errors import BadSettings
from embedfleet_schema.settings import load_settings

PRIVATE = [
    "127.0.0.1:8080",
    "localhost:8080/v1",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.2",
    "169.254.1.1",
    "100.64.0.1",
    "[::1]:80",
    "[fd00::1]",
    "[fe80::1]",
    "[::ffff:10.0.0.1]",
    "tei:80",
    "TEI",
    "models.local",
    "tei.default.svc.cluster.local:8080",
    "tei.default.svc",
    "host.docker.internal",
    "box.home.arpa",
    "a.localhost",
    "0x7f.1",
]
PUBLIC = [
    "api.openai.com/v1",
    "8.8.8.8",
    "134744072",
    "0x08080808",
    "010.8.8.8",
    "8.8.2056",
    "[2001:4860:4860::8888]",
    "[::ffff:8.8.8.8]",
    "[64:ff9b::808:808]",
    "[2002:808:808::1]",
    "100.128.0.1",
    "172.32.0.1",
    "local.example",
    "localhost.example.com",
    "10.0.0.1.example.com",
    "ai.",
    "127.0.0.1@8.8.8.8",
]


@pytest.mark.parametrize("provider", ["openai", "cohere", "voyage", "gemini", "jina", "mistral"])
@pytest.mark.parametrize("rest", PUBLIC)
def test_a_public_host_is_not_called_over_plain_http(provider, rest):
    name = f"{provider}_base_url"
    with pytest.raises(BadSettings, match=rf"{name}: .*EMBEDFLEET_INSECURE") as raised:
        load_settings(**{name: f"http://{rest}"})
    assert rest not in str(raised.value)
    assert f"https://{rest}" == getattr(load_settings(**{name: f"https://{rest}"}), name)


@pytest.mark.parametrize("rest", PRIVATE)
def test_this_machine_and_private_networks_are(rest):
    assert f"http://{rest}" == load_settings(openai_base_url=f"http://{rest}").openai_base_url


def test_whoever_says_so_may_do_it(monkeypatch):
    monkeypatch.setenv("EMBEDFLEET_INSECURE", "true")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://models.example/v1")
    assert "http://models.example/v1" == load_settings().openai_base_url
