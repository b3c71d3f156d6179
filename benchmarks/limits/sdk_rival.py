"""Eight threads with the official client as it comes: two retries, and no word to anybody else."""

from __future__ import annotations

import json
import signal
import sys
import threading
from typing import Any

import openai

from limits.rivals import MODEL, TEXTS, THREADS, WORDS
from plugins.provider_server.texts import texts


def work(client: openai.OpenAI, seed: str, ended: threading.Event, given_up: list[int]) -> None:
    source = texts(seed, 10**9, (WORDS,))
    while not ended.is_set():
        batch = [next(source) for _ in range(TEXTS)]
        try:
            client.embeddings.create(model=MODEL, input=batch, dimensions=64)
        except openai.OpenAIError:
            given_up.append(1)


def main() -> None:
    url, number = sys.argv[1:]
    client = openai.OpenAI(base_url=url, api_key="a-key-of-the-benchmark")
    ended, given_up = threading.Event(), list[int]()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    threads = [
        threading.Thread(target=work, args=(client, f"{number}-{each}", ended, given_up))
        for each in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    ended.wait()
    found: dict[str, Any] = {"given_up": len(given_up)}
    print(json.dumps(found), flush=True)
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
