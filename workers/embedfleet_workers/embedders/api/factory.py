"""What the API spaces of one process share: the loop, the HTTP client, limiters and keys."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from embedfleet_schema.accounts import account_of
from embedfleet_schema.database import Database
from embedfleet_schema.errors import ExtraMissing, KeyMissing
from embedfleet_schema.settings import Settings
from embedfleet_schema.store.limits import read
from embedfleet_schema.types import Space
from embedfleet_workers.embedders.api.access import Access, access_to
from embedfleet_workers.embedders.api.embedder import ApiEmbedder
from embedfleet_workers.embedders.api.endpoint import Endpoint
from embedfleet_workers.embedders.api.event_loop import EventLoop
from embedfleet_workers.embedders.api.fan_out import BEGUN_WAIT_S
from embedfleet_workers.embedders.api.providers.adapter import Adapter, Caps
from embedfleet_workers.embedders.api.providers.bedrock_api import (
    BedrockApi,
    BedrockCalls,
    open_calls,
)
from embedfleet_workers.embedders.api.providers.cohere_api import CohereApi
from embedfleet_workers.embedders.api.providers.gemini_api import GeminiApi
from embedfleet_workers.embedders.api.providers.http_api import HttpApi
from embedfleet_workers.embedders.api.providers.jina_api import JinaApi
from embedfleet_workers.embedders.api.providers.mistral_api import MistralApi
from embedfleet_workers.embedders.api.providers.openai_api import OPENAI, OpenAIApi
from embedfleet_workers.embedders.api.providers.vertex_api import VertexApi, open_client
from embedfleet_workers.embedders.api.providers.voyage_api import VoyageApi
from embedfleet_workers.rate_limits.registry import LimiterRegistry
from embedfleet_workers.rerankers.api_reranker import ApiReranker, RerankEndpoint

if TYPE_CHECKING:
    import httpx2

# Connections that are kept open between requests, and for how long.
KEPT_CONNECTIONS = 64
KEPT_S = 30.0
# An answer of a hundred vectors has 800 KiB, and each piece of it goes through all layers of the
# HTTP client: in pieces of its own 64 KiB that is a tenth of what an answer costs.
PIECE_BYTES = 1 << 20
# For NO_PROXY alone: their clients know their addresses.
BEDROCK = "https://bedrock-runtime.{}.amazonaws.com"
VERTEX = "https://aiplatform.googleapis.com"
# What a request may take beside waiting to be admitted and for its answer.
GRACE_S = 30.0

_ADAPTERS: dict[str, type[HttpApi]] = {
    "cohere": CohereApi,
    "gemini": GeminiApi,
    "jina": JinaApi,
    "mistral": MistralApi,
    "voyage": VoyageApi,
}


def caps_of(provider: str, model: str) -> Caps:
    """What one request to an API may hold."""
    if provider == "openai":
        return OpenAIApi.caps
    if provider == "bedrock":
        return BedrockApi.caps_of(model)
    if provider == "vertex":
        return VertexApi.caps_of(model)
    return _ADAPTERS[provider].caps_of(model)


class ApiEmbedderFactory:
    """Makes the embedders of API spaces. Nothing is opened before the first of them embeds.

    Make it in the process that uses it: neither its loop nor its connections survive a fork.
    """

    def __init__(self, settings: Settings, registry: LimiterRegistry) -> None:
        self._settings = settings
        self._registry = registry
        self._loop = EventLoop()
        self._lock = threading.Lock()
        self._clients: dict[Access, httpx2.AsyncClient] = {}
        self._bedrock: BedrockCalls | None = None
        self._vertex: Any = None

    def embedder(self, space: Space) -> ApiEmbedder:
        """An embedder of an API space: it learns as it goes, so keep it.

        Raises:
            KeyMissing: this process was given no key for the provider.
            ExtraMissing: the packages that call APIs are not installed.
            BadSettings: a file of certificates cannot be read.
        """
        with self._lock:
            adapter, account = self._adapter(space)
        endpoint = Endpoint(
            space,
            adapter,
            account,
            self._registry,
            self._settings.api_timeout_s,
        )
        return ApiEmbedder(
            endpoint,
            self._loop,
            requests=self._settings.api_requests,
            first_wait_s=self._settings.defer_after_s,
        )

    def reranker(self, provider: str, model: str) -> ApiReranker:
        """A reranker of a provider that has an endpoint for it.

        Raises:
            KeyMissing, ExtraMissing, BadSettings: as `embedder`.
        """
        with self._lock:
            key, url = self._key(provider, f"{provider}/{model}")
            client = self._http_client(provider, url)
        timeout_s = self._settings.api_timeout_s
        at = RerankEndpoint(provider, model, client, url, key, account_of(key, url), timeout_s)
        return ApiReranker(at, self._loop, self._registry)

    def close(self) -> None:
        """Give back connections and end the loop. Closing twice is harmless."""
        with self._lock:
            clients, self._clients = self._clients, {}
            bedrock, self._bedrock, self._vertex = self._bedrock, None, None
        if bedrock is not None:
            bedrock.close()

        async def goodbye() -> None:
            for client in clients.values():
                await client.aclose()
            if clients or bedrock is not None:
                await self._registry.close()

        self._loop.close(goodbye)

    def _key(self, provider: str, model: str) -> tuple[str, str]:
        """The key and the address of the provider, as this process was given them."""
        settings = self._settings
        found: SecretStr | None = getattr(settings, f"{provider}_api_key")
        key = found.get_secret_value() if found is not None else ""
        base_url: str = getattr(settings, f"{provider}_base_url") or OPENAI
        # A server of one's own may want no key.
        own = provider == "openai" and base_url != OPENAI and not settings.openai_api_version
        if not key and not own:
            raise KeyMissing(
                provider=provider,
                model=model,
                variable=f"EMBEDFLEET_{provider.upper()}_API_KEY",
            )
        return key, base_url

    def _adapter(self, space: Space) -> tuple[Adapter, str]:
        """The adapter of a space, and the account that it calls with."""
        settings = self._settings
        if space.provider == "bedrock":
            if self._bedrock is None:
                url = settings.bedrock_base_url or BEDROCK.format(settings.bedrock_region)
                self._bedrock = open_calls(settings, access_to("bedrock", url, settings))
            return BedrockApi(space, self._bedrock), self._bedrock.account
        if space.provider == "vertex":
            url = settings.vertex_base_url or VERTEX
            if self._vertex is None:
                self._vertex = open_client(settings, self._http_client("vertex", url))
            whose = f"{settings.vertex_project} {settings.vertex_location}"
            return VertexApi(space, self._vertex), account_of(whose, url)
        key, url = self._key(space.provider, space.name)
        client, account = self._http_client(space.provider, url), account_of(key, url)
        if space.provider == "openai":
            version = settings.openai_api_version
            return OpenAIApi(space, client, base_url=url, key=key, api_version=version), account
        return _ADAPTERS[space.provider](space, client, url, key), account

    def _http_client(self, provider: str, base_url: str) -> httpx2.AsyncClient:
        """The client of all providers that are reached in one way: connections are shared by
        spaces.
        """
        try:
            import httpcore2
            import httpx2
            import pybase64  # noqa: F401 - what decodes the answers: missing, it is missed now
        except ImportError as error:
            raise ExtraMissing(feature="Calling a provider's API", extra="api") from error
        access = access_to(provider, base_url, self._settings)
        if access not in self._clients:
            httpcore2.AsyncHTTP11Connection.READ_NUM_BYTES = PIECE_BYTES
            limits = httpx2.Limits(
                max_connections=None,
                max_keepalive_connections=KEPT_CONNECTIONS,
                keepalive_expiry=KEPT_S,
            )
            # The sender limits a request as a whole, so that dripping bodies cannot stretch it.
            self._clients[access] = httpx2.AsyncClient(
                limits=limits, timeout=None, follow_redirects=False, **access.options()
            )
        return self._clients[access]


def open_factory(settings: Settings, db: Database) -> ApiEmbedderFactory:
    """A factory of embedders within the limits that the whole fleet shares.

    `db` is where the limits are that a person set.
    """
    registry = LimiterRegistry(
        settings.redis,
        partial(read, db),
        target=settings.limit_target,
        # Longer than any request waits and lives, so that nobody's slot is given away under way.
        lease_s=max(BEGUN_WAIT_S, settings.defer_after_s) + settings.api_timeout_s + GRACE_S,
    )
    return ApiEmbedderFactory(settings, registry)
