"""OpenAI's Batch API as a small HTTP server in the test's process, with what can go wrong there.

Time does not pass in it: a batch ends when the test says so. Vectors are those of the dialects.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from plugins.provider_dialects import KEY, LENGTH, Dialect, expected_vectors, tokens_of

DIMENSIONS = 8
NOW = 1_900_000_000
EXPIRED = {
    "code": "batch_expired",
    "message": "This request could not be executed before the completion window expired.",
}

# What becomes of a line instead of an answer: a status with a code and a message, or "expired",
# "missing", "spoilt".
Fate = tuple[int, str, str] | str | None


@dataclass
class RemoteBatch:
    """A batch as the server keeps it."""

    id: str
    input_file_id: str
    metadata: dict[str, str]
    created_at: int
    status: str = "in_progress"
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: list[dict[str, Any]] = field(default_factory=list)

    def shown(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": "/v1/embeddings",
            "input_file_id": self.input_file_id,
            "completion_window": "24h",
            "status": self.status,
            "output_file_id": self.output_file_id,
            "error_file_id": self.error_file_id,
            "created_at": self.created_at,
            "metadata": self.metadata,
            "errors": {"object": "list", "data": self.errors} if self.errors else None,
        }


class BatchServer:
    """The provider: `batches` and `files` are what it holds, `calls` what it was asked."""

    def __init__(self) -> None:
        self.batches: dict[str, RemoteBatch] = {}
        self.files: dict[str, bytes] = {}
        self.names: dict[str, str] = {}
        self._kept: dict[str, bytes] = {}
        self.calls: list[tuple[str, str]] = []
        self.refusals: dict[tuple[str, str], tuple[int, str, str]] = {}
        """Answers to (method, path) that are given instead: status, code, message."""
        self.forgets_answer_to: set[tuple[str, str]] = set()
        """Requests that are carried out, and answered with 500 all the same."""
        self.truncate: int | None = None
        """Contents of files break off after so many bytes, once."""
        self.embedded: list[str] = []
        """Texts that were embedded by the ordinary endpoint."""
        self.created_at = NOW
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(
            ("127.0.0.1", 0), type("Handler", (_Handler,), {"owner": self})
        )
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.02}
        )
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def texts(self) -> list[str]:
        """All texts of all batches, one entry for each time that it was filed."""
        return [
            line["body"]["input"] for batch in self.batches.values() for line in self.lines(batch)
        ]

    def lines(self, batch: RemoteBatch) -> list[dict[str, Any]]:
        content = self._kept.get(batch.input_file_id, b"")
        return [json.loads(line) for line in content.split(b"\n") if line]

    def complete(
        self, fate: Callable[[str], Fate] = lambda _: None, *, as_: str = "completed"
    ) -> None:
        """End what is in progress; `fate` says for each text what becomes of it."""
        for batch in self.batches.values():
            if batch.status in ("in_progress", "cancelling"):
                self._end(batch, fate, as_)

    def fail(self, code: str, message: str = "") -> None:
        for batch in self.batches.values():
            if batch.status == "in_progress":
                batch.status = "failed"
                batch.errors = [{"code": code, "message": message, "line": None, "param": None}]

    def _end(self, batch: RemoteBatch, fate: Callable[[str], Fate], as_: str) -> None:
        good: list[bytes] = []
        bad: list[bytes] = []
        for line in self.lines(batch):
            text = line["body"]["input"]
            found = fate(text)
            if found == "missing":
                continue
            answer: dict[str, Any] = {"id": "r", "custom_id": line["custom_id"], "error": None}
            if found == "expired":
                answer |= {"response": None, "error": EXPIRED}
            elif isinstance(found, tuple):
                status, code, message = found
                body = {"error": {"message": message, "type": "t", "code": code}}
                answer["response"] = {"status_code": status, "request_id": "q", "body": body}
            else:
                body = self.embedding(line["body"])
                if found == "spoilt":
                    body["data"][0]["embedding"] = "AAAA"
                answer["response"] = {"status_code": 200, "request_id": "q", "body": body}
            failed = found == "expired" or isinstance(found, tuple)
            (bad if failed else good).append(json.dumps(answer).encode() + b"\n")
        # Answers come in any order.
        batch.output_file_id = self._keep("output", b"".join(reversed(good))) if good else None
        batch.error_file_id = self._keep("errors", b"".join(bad)) if bad else None
        batch.status = as_

    def embedding(self, body: dict[str, Any]) -> dict[str, Any]:
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        width = body.get("dimensions") or DIMENSIONS
        vectors = LENGTH * expected_vectors(texts, "document", width)
        return Dialect().answer(body, vectors, sum(map(tokens_of, texts)))

    def respond(
        self, method: str, path: str, query: dict[str, list[str]], content: bytes, kind: str
    ) -> tuple[int, bytes]:
        with self._lock:
            self.calls.append((method, path))
            refused = self.refusals.get((method, path))
            if refused is not None:
                status, code, message = refused
                return status, json.dumps({"error": {"code": code, "message": message}}).encode()
            answer = self._carried_out(method, path.strip("/").split("/"), query, content, kind)
            if (method, path) in self.forgets_answer_to:
                self.forgets_answer_to.discard((method, path))
                return 500, b"{}"
        if answer is None:
            return 404, json.dumps({"error": {"code": None, "message": "no such thing"}}).encode()
        return 200, answer if isinstance(answer, bytes) else json.dumps(answer).encode()

    def _carried_out(  # noqa: PLR0911 - a table of routes
        self, method: str, parts: list[str], query: dict[str, list[str]], content: bytes, kind: str
    ) -> dict[str, Any] | bytes | None:
        match method, parts:
            case "POST", ["embeddings"]:
                body = json.loads(content)
                self.embedded += body["input"]
                return self.embedding(body)
            case "POST", ["files"]:
                name, data = _uploaded(content, kind)
                return self._file(self._keep(name, data))
            case "GET", ["files"]:
                return {
                    "object": "list",
                    "data": [self._file(each) for each in reversed(self.files)],
                }
            case "GET", ["files", file_id, "content"]:
                return self.files.get(file_id)
            case "DELETE", ["files", file_id]:
                gone = self.files.pop(file_id, None) is not None
                return {"id": file_id, "object": "file", "deleted": gone}
            case "POST", ["batches"]:
                return self._create(json.loads(content))
            case "GET", ["batches"]:
                return self._listed(query)
            case "GET", ["batches", batch_id]:
                found = self.batches.get(batch_id)
                return found.shown() if found else None
            case "POST", ["batches", batch_id, "cancel"]:
                self.batches[batch_id].status = "cancelling"
                return self.batches[batch_id].shown()
        return None

    def _create(self, body: dict[str, Any]) -> dict[str, Any]:
        assert ("/v1/embeddings", "24h") == (body["endpoint"], body["completion_window"])
        number = next(self._numbers)
        batch = RemoteBatch(
            f"batch_{number}", body["input_file_id"], body["metadata"], self.created_at
        )
        self.batches[batch.id] = batch
        return batch.shown()

    def _listed(self, query: dict[str, list[str]]) -> dict[str, Any]:
        """The newest first, page by page."""
        newest = list(reversed(self.batches.values()))
        after = query.get("after", [""])[0]
        ids = [batch.id for batch in newest]
        start = ids.index(after) + 1 if after in ids else 0
        # Smaller pages than were asked for, so that several are needed.
        page = newest[start : start + 2]
        return {
            "object": "list",
            "data": [batch.shown() for batch in page],
            "has_more": start + 2 < len(newest),
            "first_id": page[0].id if page else None,
            "last_id": page[-1].id if page else None,
        }

    def _keep(self, name: str, data: bytes) -> str:
        file_id = f"file-{next(self._numbers)}"
        self.files[file_id] = data
        self.names[file_id] = name
        # What was deleted is remembered, for the tests.
        self._kept[file_id] = data
        return file_id

    def _file(self, file_id: str) -> dict[str, Any]:
        return {
            "id": file_id,
            "object": "file",
            "bytes": len(self.files[file_id]),
            "created_at": self.created_at,
            "filename": self.names[file_id],
            "purpose": "batch",
            "status": "processed",
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: BatchServer

    def do_GET(self) -> None:
        self._respond("GET")

    def do_POST(self) -> None:
        self._respond("POST")

    def do_DELETE(self) -> None:
        self._respond("DELETE")

    def _respond(self, method: str) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        assert f"Bearer {KEY}" == self.headers["Authorization"]
        parts = urlsplit(self.path)
        path = parts.path.removeprefix("/v1")
        kind = self.headers.get("Content-Type") or ""
        status, body = self.owner.respond(method, path, parse_qs(parts.query), content, kind)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut, whole = self.owner.truncate, body
        if cut is not None and path.endswith("/content"):
            self.owner.truncate, whole = None, body[:cut]
            self.close_connection = True
        self.wfile.write(whole)

    def log_message(self, *_: object) -> None:
        """Nothing on the test's output."""


def _uploaded(content: bytes, kind: str) -> tuple[str, bytes]:
    """The name and the bytes of the file in a multipart body."""
    boundary = kind.partition("boundary=")[2].encode()
    for part in content.split(b"--" + boundary):
        head, _, data = part.partition(b"\r\n\r\n")
        if b'name="file"' in head:
            name = head.partition(b'filename="')[2].partition(b'"')[0].decode()
            return name, data.removesuffix(b"\r\n")
    raise AssertionError("no file was uploaded")


@pytest.fixture
def batch_server() -> Iterator[BatchServer]:
    """A provider with a batch API that is gone after the test."""
    server = BatchServer()
    yield server
    server.close()
