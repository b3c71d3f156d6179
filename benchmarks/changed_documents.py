"""What a change of a large document costs: bytes of the write-ahead log, rows of chunks added, and
processor time of the producer, of PostgreSQL and of a worker that embeds with the fake model.

The same document is changed at its end, in a word near its beginning, and by a line before all
others, by which each chunk moves. It reads /proc, so it wants Linux.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import embedfleet as ef
from _scratch import machine, scratch_fleet
from embedfleet_workers.runtime import Launch, Runtime
from producer_rate import WORDS
from search_plan import server_ms

# Of one kind: an edit of one chunk, or of all.
EDITS: dict[str, Callable[[list[str], int], None]] = {
    "an end": lambda lines, n: lines.__setitem__(-1, f"The end, changed for the {n}th time."),
    "a word at the head": lambda lines, n: lines.__setitem__(3, f"{n % 10}" + lines[3][1:]),
    "a line before all": lambda lines, n: lines.insert(0, f"Line {n} is a new one."),
}


def lines_of(megabytes: float) -> list[str]:
    """Distinct paragraphs of about 400 characters."""
    rng = random.Random(7)
    count = int(megabytes * 1e6 / 400)
    return [f"Paragraph {n}: " + " ".join(rng.choices(WORDS, k=62)) for n in range(count)]


class Changes:
    """One collection with one large document, and a worker."""

    def __init__(self, fleet: ef.Fleet, megabytes: float) -> None:
        self.fleet = fleet
        chunking = ef.Chunking(size=128)
        self.docs = fleet.collection("docs", model="fake/32", chunking=chunking)
        self.lines = lines_of(megabytes)
        self._worker = Runtime(fleet.settings, Launch(("cpu",), 1, 1))
        self._worker.start()

    def close(self) -> None:
        self._worker.stop()

    def measured(self) -> dict[str, float]:
        """What storing and embedding the document as it is now takes."""
        text = "\n\n".join(self.lines)
        lsn, rows = self._ask("SELECT pg_current_wal_lsn()"), self._newest_row()
        server, started = server_ms(self.fleet.db), time.process_time()
        self.docs.enqueue([ef.Document("large", text)])
        produced, between = time.process_time() - started, server_ms(self.fleet.db)
        started = time.process_time()
        while self._worker.run_one("cpu") != "idle":
            pass
        worked = time.process_time() - started
        assert self.docs.counts().live_documents == 1
        return {
            "log_kb": float(self._ask("SELECT pg_current_wal_lsn() - %s::pg_lsn", lsn)) / 1e3,
            "rows": self._newest_row() - rows,
            "producer_s": produced,
            "server_s": (between - server) / 1e3,
            "worker_s": worked,
            "server_of_worker_s": (server_ms(self.fleet.db) - between) / 1e3,
        }

    def _newest_row(self) -> int:
        chunks = self.docs.info.chunks
        return int(self._ask(f"SELECT coalesce(max(id), 0) FROM embedfleet.{chunks}"))

    def _ask(self, statement: str, *values: object) -> Any:
        with self.fleet.db.transaction() as conn:
            return conn.execute(statement, values).fetchone()[0]  # type: ignore[index]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    print(machine())
    with scratch_fleet(batch_tokens_cpu=16_384) as fleet:
        changes = Changes(fleet, given.megabytes)
        print_row("a new one", [changes.measured()])
        print(f"{changes.docs.counts().chunks:,} chunks")
        for name, edit in EDITS.items():
            found = []
            for number in range(given.rounds):
                edit(changes.lines, number)
                found.append(changes.measured())
            print_row(name, found)
        changes.close()


def print_row(name: str, found: list[dict[str, float]]) -> None:
    """The middle of each figure."""
    cells = [f"{key} {statistics.median(each[key] for each in found):,.2f}" for key in found[0]]
    print(f"{name:<20}", *cells, sep="  ", flush=True)


if __name__ == "__main__":
    main()
