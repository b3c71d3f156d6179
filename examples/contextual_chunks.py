"""Embed each chunk with a sentence that says what it is about in its document, written by an LLM.

    OPENAI_API_KEY=... python examples/contextual_chunks.py handbook/ --llm gpt-4.1-mini

Any server that speaks OpenAI's protocol will do: OPENAI_BASE_URL. Sentences are kept in a SQLite
file, so a second run asks for nothing that was said before.
"""

from __future__ import annotations

import argparse
import hashlib
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from openai import OpenAI

import embedfleet as ef

PROMPT = """A document:

{document}

A part of it:

{chunk}

In one short sentence, say what this part is about in its document, so that a search finds it.
Answer with the sentence alone."""
# Of a long document, what stands around the part.
CHARACTERS = 24_000
AT_ONCE = 8


class Situated:
    """The sentences of one LLM, with those that it said before."""

    def __init__(self, client: OpenAI, llm: str, cache: sqlite3.Connection) -> None:
        self._client = client
        self._llm = llm
        self._cache = cache
        with cache:
            cache.execute("CREATE TABLE IF NOT EXISTS sentence (prompt BLOB PRIMARY KEY, text)")

    def __call__(self, document: ef.Document, chunks: Sequence[ef.Chunk]) -> list[str]:
        """The context of each chunk; embedfleet asks for new and changed documents only."""
        prompts = [self._prompt(document, chunk) for chunk in chunks]
        known = {prompt: self._known(prompt) for prompt in prompts}
        missing = [prompt for prompt, said in known.items() if said is None]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for prompt, said in zip(missing, pool.map(self._ask, missing), strict=True):
                with self._cache:
                    self._cache.execute(
                        "INSERT OR REPLACE INTO sentence VALUES (?, ?)",
                        (self._address(prompt), said),
                    )
                known[prompt] = said
        return [known[prompt] or "" for prompt in prompts]

    def _prompt(self, document: ef.Document, chunk: ef.Chunk) -> str:
        start = max(0, (chunk.start or 0) - CHARACTERS // 2)
        around = (document.text or "")[start : start + CHARACTERS]
        return PROMPT.format(document=around, chunk=chunk.content)

    def _address(self, prompt: str) -> bytes:
        return hashlib.sha256(f"{self._llm}\0{prompt}".encode()).digest()

    def _known(self, prompt: str) -> str | None:
        found = self._cache.execute(
            "SELECT text FROM sentence WHERE prompt = ?", (self._address(prompt),)
        ).fetchone()
        return found[0] if found else None

    def _ask(self, prompt: str) -> str:
        answer = self._client.chat.completions.create(
            model=self._llm, messages=[{"role": "user", "content": prompt}]
        )
        return (answer.choices[0].message.content or "").strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--collection", default="handbook")
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--llm", default="gpt-4.1-mini")
    parser.add_argument("--cache", default="contexts.sqlite3")
    options = parser.parse_args()
    # A window that is stored again is made in another thread.
    database = sqlite3.connect(options.cache, check_same_thread=False)
    with ef.connect() as fleet, closing(database) as cache:
        docs = fleet.collection(options.collection, model=options.model)
        situated = Situated(OpenAI(), options.llm, cache)
        job = docs.enqueue(ef.read_paths(options.paths), context=situated)
        for rejection in job.enqueued.rejections if job.enqueued is not None else ():
            print(f"not accepted: {rejection.key}: {rejection.reason}")
        status = job.wait(progress=True)
        print(f"{status.documents} new or changed, {status.unchanged} unchanged")


if __name__ == "__main__":
    main()
