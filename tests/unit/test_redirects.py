"""No text and no key follows a redirect: not to another host, and not to the same one."""

import asyncio
import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from embedfleet_schema.settings import load_settings
from embedfleet_schema.types import Space
from embedfleet_workers.embedders.api.factory import ApiEmbedderFactory
from embedfleet_workers.provider_batches.batch_api import BatchApi, NotDone
from embedfleet_workers.stop import Stop
from plugins.open_limiter import OpenRegistry

STATUSES = (301, 302, 303, 307, 308)
TEXT = "a text that stays here"
PROVIDERS = {
    "openai": "text-embedding-3-small",
    "cohere": "embed-v4.0",
    "voyage": "voyage-3.5",
    "gemini": "gemini-embedding-001",
    "jina": "jina-embeddings-v3",
    "mistral": "mistral-embed",
}


class Redirecting(ThreadingHTTPServer):
    """Answers everything with one status and one place, and keeps what it was asked."""

    daemon_threads = True
    status, place = 302, ""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []
        self._thread = threading.Thread(target=self.serve_forever)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def close(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Redirecting

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append(self.path)
        self.send_response(self.server.status)
        self.send_header("Location", self.server.place)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - the library's own names

    def log_message(self, *_: object) -> None:
        """Tests are quiet."""


@pytest.fixture
def servers() -> Iterator[tuple[Redirecting, Redirecting]]:
    """The provider, and somebody else."""
    pair = Redirecting(), Redirecting()
    yield pair
    for each in pair:
        each.close()


@pytest.fixture(params=["another host", "the same host"])
def place(request, servers) -> str:
    provider, other = servers
    return f"{(other if request.param == 'another host' else provider).url}/elsewhere"


@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_embedder_stops_at_a_redirect(servers, place, provider):
    server, other = servers
    server.place = place
    given = {f"{provider}_base_url": server.url, f"{provider}_api_key": "sk-secret"}
    access = ApiEmbedderFactory(load_settings(**given), OpenRegistry())
    space = Space(provider, PROVIDERS[provider], 8, 512)
    replies = asyncio.run(sent(access, space, server))
    access.close()
    assert {(Stop, "redirected")} == {(type(reply), reply.code) for reply in replies}
    assert all("_BASE_URL" in reply.reason for reply in replies)
    assert ([], len(STATUSES)) == (other.asked, len(server.asked))


async def sent(access: ApiEmbedderFactory, space: Space, server: Redirecting) -> list[Stop]:
    adapter, _ = access._adapter(space)
    replies = []
    for server.status in STATUSES:
        replies.append(await adapter.send([TEXT], "document"))
    for client in access._clients.values():
        await client.aclose()
    access._clients = {}
    return replies


@pytest.mark.parametrize("call", ["upload", "create", "retrieve", "lines", "delete"])
def test_the_batch_api_stops_at_a_redirect(servers, place, call):
    server, other = servers
    server.place = place
    api = BatchApi(load_settings(openai_base_url=server.url, openai_api_key="sk-secret"))
    calls = {
        "upload": lambda: api.upload("file.jsonl", io.BytesIO(TEXT.encode())),
        "create": lambda: api.create("file-1", "token"),
        "retrieve": lambda: api.retrieve("batch-1"),
        "lines": lambda: list(api.lines("file-1")),
        "delete": lambda: api.delete("file-1"),
    }
    for server.status in STATUSES:
        with pytest.raises(NotDone) as raised:
            calls[call]()
        assert "redirected" == raised.value.reply.code
    api.close()
    assert ([], len(STATUSES)) == (other.asked, len(server.asked))
