"""`POST /v1/embeddings`: how long a client waits for the vector of one short text.

Two worker processes have the model loaded, and `embedfleet console` is a process of its own. One
client asks for texts that are new, one after the other, in turns with the model alone in this
process: the difference is what the way costs. Then many clients ask at once. Then one asks while
both workers embed documents as fast as they can. Each figure stands beside the machine's load.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx2

import embedfleet as ef
from _scratch import machine, scratch_fleet, workers
from embedfleet_workers.embedders import load_embedder
from text_search import MODEL, embedding, questions, report, timed, warmed


@contextmanager
def console() -> Iterator[str]:
    """The URL of a console of its own process."""
    command = [sys.executable, "-m", "embedfleet", "console", "--port", "0"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert running.stdout is not None
    try:
        yield running.stdout.readline().decode().split()[0]
    finally:
        running.send_signal(signal.SIGINT)
        running.wait(timeout=60)


class Asking:
    """One client that keeps its connection."""

    def __init__(self, url: str, key: str) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        self._client = httpx2.Client(base_url=url, headers=headers, timeout=120)

    def __call__(self, text: str) -> None:
        body = {"model": "docs", "input": text, "encoding_format": "base64"}
        answer = self._client.post("/v1/embeddings", json=body)
        assert answer.status_code == 200, answer.text


def alone(docs: ef.Collection, client: Asking, count: int) -> None:
    """In turns, so that both meet the same load."""
    embedder = load_embedder(docs.info.space, device="cpu", threads=1)
    embedder.embed(["the first one is slower"], "query")
    client("the first one is slower")
    model, whole = [], []
    for text in questions("sort", count):
        model += timed(lambda each: embedder.embed([each], "query"), [text])
        whole += timed(client, [text])
    report("the model alone", model)
    report("one client", whole)
    report("  beyond the model", [a - b for a, b in zip(whole, model, strict=True)])
    shares = [a / b for a, b in zip(whole, model, strict=True)]
    print(f"  median of ratios: {statistics.median(shares):.1f}")


def together(url: str, key: str, clients: int, each: int) -> None:
    def ask(number: int) -> list[float]:
        return timed(Asking(url, key), questions(f"merge by {number}", each))

    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as threads:
        found = [took for some in threads.map(ask, range(clients)) for took in some]
    took_s = time.perf_counter() - began
    report(f"{clients} clients at once", found)
    print(f"  no error; {len(found) / took_s:.0f} texts/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=100)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--each", type=int, default=3, help="texts of each client")
    given = parser.parse_args()
    print(machine())
    with scratch_fleet() as fleet:
        docs = fleet.collection("docs", model=MODEL)
        key, _ = fleet.api_keys.create("bench", ["embeddings"], per_minute=1_000_000)
        os.environ["EMBEDFLEET_DATA"] = str(fleet.settings.data)
        with workers(fleet, 2), console() as url:
            warmed(fleet, docs, 2)
            client = Asking(url, key)
            alone(docs, client, given.texts)
            together(url, key, given.clients, given.each)
            over = threading.Event()
            load = threading.Thread(target=embedding(docs, over))
            load.start()
            time.sleep(5)
            report("one client while both embed", timed(client, questions("join", given.texts)))
            over.set()
            load.join()


if __name__ == "__main__":
    main()
