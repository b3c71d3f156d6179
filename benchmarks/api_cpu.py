"""CPU of a client for 1,000 vectors of 1,536 dimensions, from the socket to bytes for PostgreSQL.

Ours is the embedder of an openai/... space, from `embed` to `vector_array`. Theirs is what the
official client does by default: `client.embeddings.create`, its lists of floats into numpy, and the
same bytes. The texts are short, so that what is sent hardly counts. The server is a process of its
own and answers from memory. Both sides run in turns, so that a busy neighbour hits both, and only
the client's own CPU time counts.
"""

from __future__ import annotations

import argparse
import base64
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from embedfleet_schema.settings import load_settings
from embedfleet_schema.types import Space
from embedfleet_schema.vectors import vector_array
from embedfleet_workers.embedders.api.factory import ApiEmbedderFactory
from embedfleet_workers.rate_limits.registry import LimiterRegistry

DIMENSIONS = 1_536
OIDS: dict[Any, int] = {"vector": 16_400, "halfvec": 16_401}


def serve(ready: Connection, inputs: int) -> None:
    """Answer every request with the same vectors, made once."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((inputs, DIMENSIONS)).astype("<f4")
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    items = [
        {"object": "embedding", "index": n, "embedding": base64.b64encode(row.tobytes()).decode()}
        for n, row in enumerate(vectors)
    ]
    usage = {"prompt_tokens": 100 * inputs, "total_tokens": 100 * inputs}
    answer = json.dumps({"object": "list", "data": items, "model": "m", "usage": usage}).encode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        ready.send(server.server_port)
        server.serve_forever()


def measure(url: str, inputs: int, requests: int, rounds: int) -> dict[str, float]:
    import openai

    space = Space("openai", "text-embedding-3-small", DIMENSIONS, 8_191)
    texts = [f"text number {n}" for n in range(inputs)]
    access = ApiEmbedderFactory(
        load_settings(openai_api_key="key", openai_base_url=url), LimiterRegistry(None, None)
    )
    embedder = access.embedder(space)
    client = openai.OpenAI(api_key="key", base_url=url)

    def ours() -> bytes:
        return vector_array(embedder.embed(texts, "document"), "vector", OIDS).data

    def theirs() -> bytes:
        found = client.embeddings.create(model=space.model, input=texts)
        matrix = np.array([item.embedding for item in found.data], dtype=np.float32)
        return vector_array(matrix, "vector", OIDS).data

    assert len(ours()) == len(theirs())
    our_times: list[float] = []
    their_times: list[float] = []
    for _ in range(rounds):
        our_times.append(cpu(ours, requests) / (requests * inputs) * 1_000)
        their_times.append(cpu(theirs, requests) / (requests * inputs) * 1_000)
    access.close()
    client.close()
    return {
        "inputs_per_request": inputs,
        "ours_cpu_ms": 1e3 * statistics.median(our_times),
        "official_cpu_ms": 1e3 * statistics.median(their_times),
        "ratio": statistics.median(o / t for o, t in zip(our_times, their_times, strict=True)),
    }


def cpu(run: Callable[[], object], times: int) -> float:
    started = time.process_time()
    for _ in range(times):
        run()
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100)
    parser.add_argument("--requests", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    ready, child = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(
        target=serve, args=(child, options.inputs), daemon=True
    )
    server.start()
    url = f"http://127.0.0.1:{ready.recv()}/v1"
    found = measure(url, options.inputs, options.requests, options.rounds)
    server.terminate()
    if options.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:>20}  {value:,.2f}")


if __name__ == "__main__":
    main()
