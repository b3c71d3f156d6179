"""Embedding models of Amazon Bedrock: Titan and Cohere, through the official client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from embedfleet_schema.accounts import account_of
from embedfleet_schema.catalogue.api_models import bedrock_model, find
from embedfleet_schema.errors import AccountMissing, ExtraMissing
from embedfleet_schema.settings import Settings
from embedfleet_schema.types import Kind, Space
from embedfleet_workers.embedders.api.access import Access
from embedfleet_workers.embedders.api.providers.adapter import Caps, Faulty, Reply
from embedfleet_workers.embedders.api.providers.bedrock_errors import refusal
from embedfleet_workers.embedders.api.providers.http_api import answer, in_order
from embedfleet_workers.embedders.api.token_counts import counter
from embedfleet_workers.rate_limits.quota import Amounts, Reading

# Its client waits in a thread for each request that is under way.
THREADS = 64
_CONNECT_S = 10.0
# Bedrock refuses longer ones, before the model could truncate them at 512 tokens.
_V3_CHARACTERS = 2_048
_INPUT_TYPES = {"document": "search_document", "query": "search_query"}


@dataclass(frozen=True, slots=True)
class BedrockCalls:
    """The client of one process, and the threads in which it waits: never those of the event loop.

    `account` tells apart whose quota it is, by the region and a key that lasts.
    """

    client: Any
    pool: ThreadPoolExecutor
    account: str
    trusted: TemporaryDirectory[str]

    def close(self) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)
        self.client.close()
        self.trusted.cleanup()


def open_calls(settings: Settings, access: Access) -> BedrockCalls:
    """A client with the credentials that the official client finds by itself.

    Raises:
        ExtraMissing: boto3 is not installed.
        AccountMissing: nothing names a region, or there are no credentials.
    """
    try:
        import boto3
        from botocore.exceptions import BotoCoreError
    except ImportError as error:
        raise ExtraMissing(feature="Calling Amazon Bedrock", extra="bedrock") from error
    try:
        session = boto3.Session(region_name=settings.bedrock_region)
        if session.region_name is None:
            raise AccountMissing(
                provider="bedrock", what="a region", variable="EMBEDFLEET_BEDROCK_REGION"
            )
        if session.get_credentials() is None:
            raise AccountMissing(
                provider="bedrock",
                what="credentials",
                variable="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
            )
        trusted = TemporaryDirectory(prefix="embedfleet-bedrock-")
        client = _client(session, settings, access, _bundle(access, Path(trusted.name)))
    except BotoCoreError as error:
        raise AccountMissing(
            provider="bedrock",
            what=f"an account that can be read ({type(error).__name__})",
            variable="AWS_PROFILE",
        ) from error
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="bedrock")
    return BedrockCalls(client, pool, _account(session, settings), trusted)


def _bundle(access: Access, folder: Path) -> str | None:
    """One file of certificates, as the client wants it: its own, and those of the settings."""
    if access.ca_file is None:
        return None
    from botocore.httpsession import where

    access.context  # noqa: B018 - it is read once to say by name what cannot be read
    bundle = folder / "certificates.pem"
    bundle.write_bytes(Path(where()).read_bytes() + b"\n" + access.ca_file.read_bytes())
    return str(bundle)


def _client(session: Any, settings: Settings, access: Access, verify: str | None) -> Any:  # noqa: ANN401
    """Without retries of its own: they would pass the fleet's limit by."""
    from botocore.config import Config

    client = session.client(
        "bedrock-runtime",
        endpoint_url=settings.bedrock_base_url,
        verify=verify,
        config=Config(
            retries={"total_max_attempts": 1, "mode": "standard"},
            max_pool_connections=THREADS,
            connect_timeout=_CONNECT_S,
            read_timeout=settings.api_timeout_s,
            proxies={"http": access.proxy, "https": access.proxy} if access.proxy else None,
        ),
    )

    def add(request: Any, **_: object) -> None:  # noqa: ANN401 - botocore's own
        for name, value in access.headers:
            request.headers[name] = value

    # Before the request is signed: what a gateway on the way needs is part of it.
    client.meta.events.register("before-sign.bedrock-runtime", add)
    return client


def _account(session: Any, settings: Settings) -> str:  # noqa: ANN401
    """Keys of a role change by the hour: its profile stands for it."""
    found = session.get_credentials()
    lasting = found.access_key if found.access_key.startswith("AKIA") else ""
    who = lasting or f"{found.method} {session.profile_name}"
    return account_of(who, f"bedrock {session.region_name} {settings.bedrock_base_url or ''}")


class BedrockApi:
    """Titan takes one text per request, Cohere 96; tokens are what the headers of an answer count.

    The quota counts requests and tokens of a minute, for each model, account and region. Sources:
    https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-embed-text.html,
    https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-embed.html,
    https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModel.html
    """

    def __init__(self, space: Space, calls: BedrockCalls) -> None:
        self._space = space
        self._calls = calls
        self.caps = self.caps_of(space.model)
        known = find("bedrock", space.model)
        self.count_tokens = counter(known.tokenizer if known else None)
        default = known.dimensions if known else space.dimensions
        self._width = space.dimensions if space.dimensions != default else None

    @classmethod
    def caps_of(cls, model: str) -> Caps:
        return Caps(inputs=96 if _is_cohere(model) else 1)

    def costs(self, tokens: Sequence[int]) -> Amounts:
        return {"requests": 1, "tokens": sum(tokens)}

    async def send(self, texts: Sequence[str], kind: Kind) -> Reply:
        body = json.dumps(self._body(texts, kind), ensure_ascii=False).encode()
        ask = partial(self._ask, body)
        return await asyncio.wrap_future(self._calls.pool.submit(ask))

    def _ask(self, body: bytes) -> Reply:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            got = self._calls.client.invoke_model(
                modelId=self._space.model,
                body=body,
                contentType="application/json",
                accept="application/json",
            )
            content = got["body"].read()
        except (ClientError, BotoCoreError) as error:
            return refusal(error)
        except OSError as error:
            return Faulty(f"the connection failed ({type(error).__name__})")
        headers = got["ResponseMetadata"]["HTTPHeaders"]
        return answer(content, partial(self._read, headers), Reading())

    def _body(self, texts: Sequence[str], kind: Kind) -> dict[str, Any]:
        model = bedrock_model(self._space.model)
        if not _is_cohere(model):
            body: dict[str, Any] = {"inputText": texts[0]}
            if self._width is not None:
                body["dimensions"] = self._width
            return body
        newer = "v4" in model
        body = {
            "texts": list(texts) if newer else [text[:_V3_CHARACTERS] for text in texts],
            "input_type": _INPUT_TYPES[kind],
            "embedding_types": ["float"],
            "truncate": "RIGHT" if newer else "END",
        }
        if self._width is not None:
            body["output_dimension"] = self._width
        return body

    def _read(
        self,
        headers: Mapping[str, str],
        body: Any,  # noqa: ANN401
    ) -> tuple[list[tuple[object, object]], object]:
        counted = headers.get("x-amzn-bedrock-input-token-count", "")
        tokens = int(counted) if counted.isdecimal() and len(counted) < 10 else None  # noqa: PLR2004
        if not _is_cohere(self._space.model):
            return in_order([body["embedding"]]), body.get("inputTextTokenCount", tokens)
        found = body["embeddings"]
        return in_order(found["float"] if isinstance(found, dict) else found), tokens


def _is_cohere(model: str) -> bool:
    return bedrock_model(model).startswith("cohere.")
