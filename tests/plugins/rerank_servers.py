"""Cohere's and Voyage's rerank endpoints as one small HTTP server, and a tiny cross-encoder."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from plugins.provider_dialects import KEY
from plugins.random_models import SIZES


def fit(query: str, text: str) -> float:
    """The share of a query's words that a text has: what the servers say of it."""
    words = query.lower().split()
    return sum(word in text.lower().split() for word in words) / len(words)


class RerankServer(ThreadingHTTPServer):
    """`script` holds the statuses and bodies of the next answers; then it answers well."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.asked: list[tuple[str, dict]] = []
        self.script: list[tuple[int, bytes]] = []
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def answer(self, path: str, body: dict) -> tuple[int, bytes]:
        self.asked.append((path, body))
        if self.script:
            return self.script.pop(0)
        scores = [fit(body["query"], text) for text in body["documents"]]
        order = sorted(range(len(scores)), key=lambda index: -scores[index])
        listed = [{"index": index, "relevance_score": scores[index]} for index in order]
        if path == "/v2/rerank":
            return 200, json.dumps({"results": listed, "meta": {}}).encode()
        said = {"object": "list", "data": listed, "usage": {"total_tokens": 77}}
        return 200, json.dumps(said).encode()


@pytest.fixture
def rerank_server() -> Iterator[RerankServer]:
    started = RerankServer()
    yield started
    started.close()


class _Handler(BaseHTTPRequestHandler):
    server: RerankServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status, said = 401, b'{"message": "invalid api token"}'
        if self.headers.get("Authorization") == f"Bearer {KEY}":
            status, said = self.server.answer(self.path, body)
        self.send_response(status)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        """Tests are quiet."""


def saved_cross_encoder(directory: Path, labels: int = 1) -> Path:
    """A cross-encoder of random weights with the tokenizer of MiniLM."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    from embedfleet_schema.catalogue.model_files import find_model

    torch.manual_seed(3)
    config = BertConfig(**SIZES, num_labels=labels)
    BertForSequenceClassification(config).save_pretrained(directory)
    tokenizer = AutoTokenizer.from_pretrained(find_model("all-MiniLM-L6-v2"))
    tokenizer.model_max_length = 64
    tokenizer.save_pretrained(directory)
    return directory
