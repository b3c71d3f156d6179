"""Providers as small HTTP servers in the test's process: each speaks a dialect, and can misbehave.

Vectors are drawn from the text, and from its kind where the dialect has kinds; they are three times
too long, so that who does not normalize is found out.
"""

from __future__ import annotations

import base64
import itertools
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedfleet_schema.settings import load_settings
from embedfleet_schema.types import Kind, Space
from embedfleet_workers.embedders.api.factory import ApiEmbedderFactory
from embedfleet_workers.embedders.fake import fake_vectors
from plugins.open_limiter import OpenLimiter, OpenRegistry

KEY = "test-key-0123456789"
LENGTH = 3.0
DRIP_S = 0.05
TOKEN_PATH = "/token"  # noqa: S105


@dataclass(frozen=True)
class Call:
    """One request as it came."""

    number: int
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    texts: list[str]
    kind: Kind


@dataclass(frozen=True)
class Misdeed:
    """How a server answers instead; with `spoil`, the usual answer is changed."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    spoil: Callable[[Any], Any] | None = None
    truncated: bool = False
    reset: bool = False
    stall: bool = False
    drip: bool = False


Plan = Callable[[Call], Misdeed | None]


def refusal(status: int, code: str = "", message: str = "", **headers: str) -> Misdeed:
    """An error in OpenAI's form; underscores in the names of headers stand for dashes."""
    body = {"error": {"message": message, "type": "", "param": None, "code": code or None}}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Misdeed(status, named, json.dumps(body).encode())


def rate_limited(code: str = "rate_limit_exceeded", **headers: str) -> Misdeed:
    return refusal(429, code, "slow down", **headers)


class Dialect:
    """OpenAI's; the others change what is different."""

    provider = "openai"
    most_inputs = 2_048
    has_kinds = False
    base64_by = "encoding_format"

    def authorized(self, headers: dict[str, str]) -> bool:
        return headers.get("authorization") == f"Bearer {KEY}"

    def texts(self, body: dict[str, Any]) -> list[str]:
        return body["input"]

    def kind(self, body: dict[str, Any]) -> Kind:
        return "document"

    def width(self, body: dict[str, Any]) -> int | None:
        return body.get("dimensions")

    def answer(self, body: dict[str, Any], vectors: np.ndarray, tokens: int) -> dict[str, Any]:
        packed = body.get(self.base64_by) == "base64"
        items = [
            {"object": "embedding", "index": index, "embedding": packed_row(row) if packed else row}
            for index, row in enumerate(vectors if packed else vectors.tolist())
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "data": items, "model": body.get("model"), "usage": usage}

    def items(self, answer: dict[str, Any]) -> list[Any]:
        """The list of vectors in an answer, to be spoilt in place."""
        return answer["data"]

    def too_many(self) -> Misdeed:
        message = f"array too long. Expected maximum length {self.most_inputs}"
        return refusal(400, "array_above_max_length", message)

    def empty(self) -> Misdeed:
        return refusal(400, "", "input cannot be an empty string")

    def unauthorized(self) -> Misdeed:
        return refusal(401, "invalid_api_key", f"Incorrect API key provided: {KEY}")


class Cohere(Dialect):
    provider = "cohere"
    most_inputs = 96
    has_kinds = True

    def texts(self, body):
        assert body["truncate"] == "END"
        return body["texts"]

    def kind(self, body):
        return {"search_document": "document", "search_query": "query"}[body["input_type"]]

    def width(self, body):
        return body.get("output_dimension")

    def answer(self, body, vectors, tokens):
        assert body["embedding_types"] == ["float"]
        billed = {"billed_units": {"input_tokens": tokens}}
        return {"id": "1", "embeddings": {"float": vectors.tolist()}, "meta": billed}

    def items(self, answer):
        return answer["embeddings"]["float"]

    def too_many(self):
        said = {
            "message": "invalid request: total number of texts must be at most 96 - received 97"
        }
        return Misdeed(400, body=json.dumps(said).encode())

    def empty(self):
        return Misdeed(400, body=b'{"message": "invalid request: texts must not be empty"}')

    def unauthorized(self):
        return Misdeed(401, body=b'{"message": "invalid api token"}')


class Voyage(Dialect):
    provider = "voyage"
    most_inputs = 1_000
    has_kinds = True

    def kind(self, body):
        return body["input_type"]

    def width(self, body):
        return body.get("output_dimension")

    def too_many(self):
        return Misdeed(
            400, body=b'{"detail": "The batch size limit is 1000. Your batch is larger."}'
        )

    def empty(self):
        return Misdeed(400, body=b'{"detail": "Input cannot contain empty strings."}')

    def unauthorized(self):
        return Misdeed(401, body=b'{"detail": "Provided API key is invalid."}')


class Gemini(Dialect):
    provider = "gemini"
    most_inputs = 100
    has_kinds = True

    def authorized(self, headers):
        return headers.get("x-goog-api-key") == KEY

    def texts(self, body):
        return [each["content"]["parts"][0]["text"] for each in body["requests"]]

    def kind(self, body):
        task = body["requests"][0]["taskType"]
        return {"RETRIEVAL_DOCUMENT": "document", "RETRIEVAL_QUERY": "query"}[task]

    def width(self, body):
        return body["requests"][0].get("outputDimensionality")

    def answer(self, body, vectors, tokens):
        return {"embeddings": [{"values": row} for row in vectors.tolist()]}

    def items(self, answer):
        return answer["embeddings"]

    def too_many(self):
        said = "* BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch\n"
        return self._error(400, "INVALID_ARGUMENT", said)

    def empty(self):
        return self._error(400, "INVALID_ARGUMENT", "content is empty")

    def unauthorized(self):
        details = [{"@type": "ErrorInfo", "reason": "API_KEY_INVALID"}]
        return self._error(400, "INVALID_ARGUMENT", "API key not valid.", details)

    def _error(self, code, status, message, details=()):
        error = {"code": code, "message": message, "status": status, "details": list(details)}
        return Misdeed(code, body=json.dumps({"error": error}).encode())


class Jina(Dialect):
    provider = "jina"
    has_kinds = True
    base64_by = "embedding_type"

    def kind(self, body):
        return {"retrieval.passage": "document", "retrieval.query": "query"}[body["task"]]

    def unauthorized(self):
        return Misdeed(401, body=b'{"detail": "Invalid API key"}')


class Mistral(Dialect):
    provider = "mistral"
    most_inputs = 256

    def width(self, body):
        return body.get("output_dimension")

    def too_many(self):
        said = {
            "object": "error",
            "message": "Too many inputs in request, split into more batches.",
            "type": "invalid_request_prompt",
            "code": "3210",
        }
        return Misdeed(400, body=json.dumps(said).encode())


class Bedrock(Dialect):
    """Amazon's: who calls is known by a signature, the model by the path, an error by a header."""

    provider = "bedrock"
    has_kinds = True

    def authorized(self, headers):
        return f"Credential={KEY}/" in headers.get("authorization", "")

    def texts(self, body):
        return [body["inputText"]] if "inputText" in body else body["texts"]

    def kind(self, body):
        kinds = {"search_document": "document", "search_query": "query"}
        return kinds[body.get("input_type", "search_document")]

    def width(self, body):
        return body.get("dimensions") or body.get("output_dimension")

    def answer(self, body, vectors, tokens):
        if "inputText" in body:
            return {"embedding": vectors[0].tolist(), "inputTextTokenCount": tokens}
        return {"embeddings": {"float": vectors.tolist()}, "response_type": "embeddings_by_type"}

    def items(self, answer):
        return answer["embeddings"]["float"]

    def too_many(self):
        return self.error(400, "ValidationException", "#/texts: expected maxItems: 96, found: 97")

    def empty(self):
        said = "Malformed input request: expected minLength: 1, actual: 0"
        return self.error(400, "ValidationException", said)

    def unauthorized(self):
        said = "The security token included in the request is invalid."
        return self.error(403, "UnrecognizedClientException", said)

    def error(self, status, code, message):
        headers = {"x-amzn-ErrorType": f"{code}:http://internal.amazon.com/coral/"}
        return Misdeed(status, headers, json.dumps({"message": message}).encode())


class Vertex(Dialect):
    """Google Cloud's: a token that expires, the model in the path, and two forms by the model."""

    provider = "vertex"
    most_inputs = 250
    has_kinds = True
    embedding = "instances"

    def authorized(self, headers):
        return headers.get("authorization") == f"Bearer {KEY}"

    def texts(self, body):
        if "instances" in body:
            return [each["content"] for each in body["instances"]]
        return [body["content"]["parts"][0]["text"]]

    def _options(self, body):
        """`:predict` has a task for each text, and `:embedContent` one configuration."""
        if "instances" not in body:
            return body["embedContentConfig"]
        task = body["instances"][0]["task_type"]
        assert body["parameters"]["autoTruncate"] is True
        return {"taskType": task, **body["parameters"]}

    def kind(self, body):
        task = self._options(body)["taskType"]
        return {"RETRIEVAL_DOCUMENT": "document", "RETRIEVAL_QUERY": "query"}[task]

    def width(self, body):
        return self._options(body).get("outputDimensionality")

    def answer(self, body, vectors, tokens):
        if "instances" in body:
            counts = [tokens_of(text) for text in self.texts(body)]
            return {
                "predictions": [
                    {"embeddings": {"values": row, "statistics": {"token_count": count}}}
                    for row, count in zip(vectors.tolist(), counts, strict=True)
                ]
            }
        return {
            "embedding": {"values": vectors[0].tolist()},
            "usageMetadata": {"promptTokenCount": tokens},
        }

    def items(self, answer):
        return answer["predictions"]

    def too_many(self):
        said = "251 instance(s) in one request: the batch size is at most 250"
        return self.error(400, "INVALID_ARGUMENT", said)

    def unauthorized(self):
        return self.error(401, "UNAUTHENTICATED", "invalid authentication credentials")

    def error(self, code, status, message):
        error = {"code": code, "message": message, "status": status}
        return Misdeed(code, body=json.dumps({"error": error}).encode())


DIALECTS = {
    each.provider: each
    for each in (Dialect, Cohere, Voyage, Gemini, Jina, Mistral, Bedrock, Vertex)
}


def packed_row(row: np.ndarray) -> str:
    return base64.b64encode(row.astype("<f4").tobytes()).decode()


def expected_vectors(texts: list[str], kind: Kind, dimensions: int) -> np.ndarray:
    """What a server says that these texts are, of unit length."""
    return fake_vectors(Space("dialect", "any", dimensions, 1), texts, kind)


class DialectServer:
    """One provider on a port of its own. `plan` decides how each call is answered."""

    def __init__(self, provider: str, dimensions: int) -> None:
        self.dialect = DIALECTS[provider]()
        self.calls: list[Call] = []
        self.plan: Plan = lambda call: None
        self.headers: dict[str, str] = {}
        self.tokens = 0
        self.released = threading.Event()
        """Set it, and what stalls goes on."""
        self._dimensions = dimensions
        self._numbers = itertools.count(1)
        self._http = ThreadingHTTPServer(
            ("127.0.0.1", 0), type("Handler", (_Handler,), {"owner": self})
        )
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.02}
        )
        self._thread.start()

    def close(self) -> None:
        self.released.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def script(self, *misdeeds: Misdeed | None) -> None:
        """Answer the next calls in these ways, and all later ones well."""
        waiting = iter(misdeeds)
        self.plan = lambda call: next(waiting, None)

    def texts(self) -> list[list[str]]:
        return [call.texts for call in self.calls]

    def respond(self, path: str, headers: dict[str, str], body: dict[str, Any]) -> Misdeed:
        """What is sent back, as a misdeed even where it is none."""
        dialect = self.dialect
        if not dialect.authorized(headers):
            return dialect.unauthorized()
        texts = dialect.texts(body)
        call = Call(next(self._numbers), path, headers, body, texts, dialect.kind(body))
        self.calls.append(call)
        misdeed = self.plan(call) or Misdeed()
        if misdeed.status != 200 or misdeed.body:
            return misdeed
        if len(texts) > dialect.most_inputs:
            return dialect.too_many()
        if "" in texts:
            return dialect.empty()
        width = dialect.width(body) or self._dimensions
        vectors = LENGTH * expected_vectors(texts, call.kind, width)
        answer = dialect.answer(body, vectors, sum(map(tokens_of, texts)))
        if misdeed.spoil is not None:
            misdeed.spoil(dialect.items(answer))
        said = json.dumps(answer).encode()
        return Misdeed(
            200,
            {**self.headers, **misdeed.headers},
            said[: len(said) // 2] if misdeed.truncated else said,
            reset=misdeed.reset,
            stall=misdeed.stall,
            drip=misdeed.drip,
        )


def tokens_of(text: str) -> int:
    """What the servers count."""
    return 1 + len(text.encode()) // 5


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: DialectServer

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == TOKEN_PATH:
            self._send_token()
            return
        body = json.loads(content)
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.owner.respond(self.path, headers, body)
        if reply.stall:
            self.owner.released.wait(60)
        if reply.reset:
            self._reset()
            return
        self.send_response(reply.status)
        kind = "text/html" if reply.body.startswith(b"<") else "application/json"
        for name, value in {"Content-Type": kind, **reply.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        try:
            self._write(reply)
        except OSError:
            self.close_connection = True

    def _send_token(self) -> None:
        """What Google's servers give for a signed assertion of a service account."""
        self.owner.tokens += 1
        body = json.dumps({"access_token": KEY, "expires_in": 3_600, "token_type": "Bearer"})
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def _write(self, reply: Misdeed) -> None:
        pieces = [reply.body[at : at + 1] for at in range(len(reply.body))]
        for piece in pieces if reply.drip else [reply.body]:
            self.wfile.write(piece)
            self.wfile.flush()
            if reply.drip and self.owner.released.wait(DRIP_S):
                return

    def _reset(self) -> None:
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Nothing on the test's output."""


def account_at(server: DialectServer) -> dict[str, object]:
    """Settings for a provider; those with a client of their own find the rest in the environment:
    `cloud_credentials`.
    """
    provider = server.dialect.provider
    url = {f"{provider}_base_url": server.url}
    match provider:
        case "bedrock":
            return {**url, "bedrock_region": "eu-central-1"}
        case "vertex":
            return {**url, "vertex_project": "a-project"}
    return {**url, f"{provider}_api_key": KEY}


def set_cloud_credentials(patch: pytest.MonkeyPatch, folder: Path, server: DialectServer) -> None:
    """Credentials that the official clients find, and that are good for nothing: a key of AWS, and
    a service account of Google whose tokens come from the server of the test.
    """
    patch.setenv("AWS_ACCESS_KEY_ID", KEY)
    patch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    patch.setenv("AWS_CONFIG_FILE", str(folder / "none"))
    patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "none"))
    patch.delenv("AWS_PROFILE", raising=False)
    patch.setenv("NO_GCE_CHECK", "true")
    account = {
        "type": "service_account",
        "project_id": "a-project",
        "private_key_id": "1",
        "private_key": _private_key(),
        "client_email": "embedfleet@a-project.iam.gserviceaccount.com",
        "token_uri": server.url + TOKEN_PATH,
    }
    file = folder / "service_account.json"
    file.write_text(json.dumps(account))
    patch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))


@cache
def _private_key() -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def factory_to(
    server: DialectServer, limiter: OpenLimiter | None = None, **settings: object
) -> ApiEmbedderFactory:
    """Access to this one provider, through a limiter that admits everyone."""
    account = account_at(server)
    return ApiEmbedderFactory(load_settings(**{**account, **settings}), OpenRegistry(limiter))


DialectMaker = Callable[..., DialectServer]


@pytest.fixture
def dialect() -> Iterator[DialectMaker]:
    """Starts providers that are gone after the test."""
    started: list[DialectServer] = []

    def make(provider: str = "openai", dimensions: int = 8) -> DialectServer:
        started.append(DialectServer(provider, dimensions))
        return started[-1]

    yield make
    for server in started:
        server.close()
