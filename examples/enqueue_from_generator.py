"""Enqueue the rows of a database, one by one: memory stays flat whatever the table's size.

    python examples/enqueue_from_generator.py articles.sqlite3 --model all-MiniLM-L6-v2

The table is `article (slug, title, body)`. Run it again: only what changed is embedded.
"""

from __future__ import annotations

import argparse
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import embedfleet as ef


def articles(path: str) -> Iterator[ef.Document]:
    """A document per row; the row's own id is the key, so that a second run replaces the first."""
    with closing(sqlite3.connect(path)) as database:
        for slug, title, body in database.execute("SELECT slug, title, body FROM article"):
            yield ef.Document(key=slug, text=f"{title}\n\n{body}", metadata={"title": title})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("database")
    parser.add_argument("--collection", default="articles")
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    options = parser.parse_args()
    with ef.connect() as fleet:
        docs = fleet.collection(options.collection, model=options.model)
        job = docs.enqueue(articles(options.database))
        if job.enqueued is not None:
            for rejection in job.enqueued.rejections:
                print(f"not accepted: {rejection.key}: {rejection.reason}")
        status = job.wait(progress=True)
        print(
            f"{status.documents} new or changed, {status.unchanged} unchanged, "
            f"{status.embedded} texts embedded"
        )


if __name__ == "__main__":
    main()
