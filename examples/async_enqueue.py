"""Enqueue, wait and search beside a running event loop: the commits of a repository.

    python examples/async_enqueue.py ~/src/project --query "why was the cache removed?"

`aenqueue` takes asynchronous iterables as they are, and reads the next document when there is room.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator

import embedfleet as ef

# %x1f between the fields of a commit, %x1e after it: neither occurs in a message.
FORMAT = "%H%x1f%an%x1f%as%x1f%B%x1e"


async def commits(folder: str) -> AsyncIterator[ef.Document]:
    """A document per commit, while git still reads the history."""
    git = await asyncio.create_subprocess_exec(
        "git", "-C", folder, "log", f"--format={FORMAT}", stdout=asyncio.subprocess.PIPE
    )
    assert git.stdout is not None  # noqa: S101 - a pipe was asked for
    rest = ""
    async for line in git.stdout:
        *whole, rest = (rest + line.decode(errors="replace")).split("\x1e")
        for commit in whole:
            key, author, date, message = commit.strip().split("\x1f")
            yield ef.Document(key=key, text=message, metadata={"author": author, "date": date})
    if await git.wait():
        raise SystemExit(f"git cannot read {folder}")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--collection", default="commits")
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--query", default="fix a bug")
    options = parser.parse_args()
    with ef.connect() as fleet:
        docs = fleet.collection(options.collection, model=options.model)
        job = await docs.aenqueue(commits(options.folder))
        status = await job.wait_async()
        print(f"{status.embedded} texts embedded, {status.failed} failed")
        for hit in await docs.asearch(options.query, k=3):
            print(f"{hit.score:.3f} {hit.document[:10]} {hit.content.splitlines()[0]}")


if __name__ == "__main__":
    asyncio.run(main())
