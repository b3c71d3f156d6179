"""What one operation costs as collections become many: milliseconds, as a caller sees them, and of
PostgreSQL's processor time, which other work on the machine does not change.

All collections share one model. Next to nothing is in them: what is measured is PostgreSQL's
catalog, our look-ups, and what goes through all of them. It reads /proc, so it wants Linux.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import embedfleet as ef
from _scratch import machine, scratch_fleet
from embedfleet.cli.collections import described
from embedfleet.cli.diagnosis import examine
from embedfleet.stack.wheels import postgres_programs
from embedfleet_schema.database import Database
from embedfleet_schema.migrate import migrate
from embedfleet_schema.roles import set_up_roles
from embedfleet_schema.store import spaces
from embedfleet_schema.store.batches import Batches
from embedfleet_schema.store.collection_counts import counts_of_all
from embedfleet_schema.store.sweep import sweep
from embedfleet_workers.embedders.fake import fake_vectors
from embedfleet_workers.runtime import Launch, Runtime

MODEL = "fake/16"
VECTOR = [1.0] + [0.0] * 15
TIMES = 20


class Server:
    """The processor time of the sessions that are there, but for its own."""

    def __init__(self, fleet: ef.Fleet) -> None:
        self._conn = fleet.db.direct()

    def milliseconds(self) -> dict[int, float]:
        found = "SELECT pid FROM pg_stat_activity WHERE datname IS NOT NULL AND pid <> %s"
        pids = self._conn.execute(found, (self._conn.info.backend_pid,)).fetchall()
        return {pid: self._of(pid) for (pid,) in pids}

    def _of(self, pid: int) -> float:
        try:
            return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e6
        except FileNotFoundError:
            return 0.0


class One:
    """What is done with one collection among many."""

    def __init__(self, fleet: ef.Fleet) -> None:
        self.fleet = fleet
        self.server = Server(fleet)
        self.batches = Batches(fleet.db, owner=uuid4(), lease_seconds=60)
        self.made = 0

    def timed(self, name: str, work: Callable[[], object], times: int = TIMES) -> None:
        """The middle of some calls, and what the server worked for each of them on average."""
        taken = []
        before = self.server.milliseconds()
        for _ in range(times):
            started = time.perf_counter()
            work()
            taken.append((time.perf_counter() - started) * 1e3)
        after = self.server.milliseconds()
        worked = sum(spent - before.get(pid, 0.0) for pid, spent in after.items()) / times
        print(f"{name:<36} {statistics.median(taken):9.1f} ms {worked:9.1f} ms", flush=True)

    def create(self) -> None:
        self.made += 1
        self.fleet.collection(f"c{self.made}", model=MODEL)

    def open(self) -> None:
        self.docs = self.fleet.collection(f"c{self.made // 2}")

    def enqueue(self) -> None:
        self.docs.enqueue([ef.Document(uuid4().hex, f"some words and {uuid4().hex}")])

    def claim(self) -> None:
        self.lease = self.batches.claim("cpu")

    def claim_excluding(self) -> None:
        self.batches.claim("cpu", excluding=[self.docs.info.space_id])

    def commit(self) -> None:
        if self.lease is not None:
            texts = self.lease.texts
            self.batches.commit(self.lease, fake_vectors(self.docs.info.space, texts, "document"))
            self.lease = None

    def search(self) -> None:
        self.docs.search(VECTOR, k=10)

    def view(self) -> None:
        with self.fleet.db.transaction() as conn:
            conn.execute(f"SELECT document FROM embedfleet.{self.docs.name} LIMIT 10").fetchall()

    def reuse(self) -> None:
        if self.lease is not None:
            self.batches.reuse(self.lease)

    def pause(self) -> None:
        self.enqueue()
        if (lease := self.batches.claim("cpu")) is None:
            sys.exit("there is nothing to claim")
        self.batches.pause_space(lease, code="test", reason="a benchmark")

    def resume(self) -> None:
        spaces.resume(self.fleet.db, MODEL)

    def drop(self) -> None:
        self.fleet.collection(f"c{self.made}").drop()
        self.made -= 1

    def start_worker(self) -> None:
        runtime = Runtime(self.fleet.settings, Launch(("cpu",), 1, 1))
        runtime.start()
        runtime.stop()

    def start_producer(self) -> None:
        database = Database(self.fleet.settings.database)
        with database.transaction():
            pass
        database.close()


def measure(one: One) -> None:
    """With as many collections as there are."""
    fleet, timed = one.fleet, one.timed
    title = f"-- {one.made:,} collections"
    print(f"{title:<36} {'a caller':>12} {'the server':>12}", flush=True)
    timed("create", one.create)
    timed("open", one.open)
    timed("enqueue of one document", one.enqueue)
    timed("claim without the model", one.claim_excluding)
    for name in ("claim", "reuse of others' vectors", "commit"):
        timed(name, {"claim": one.claim, "commit": one.commit}.get(name, one.reuse), 1)
    timed("search by vector", one.search)
    timed("plain SQL through the view", one.view)
    timed("show", lambda: described(one.docs))
    timed("audit", one.docs.audit)
    timed("list", fleet.collections, 3)
    timed("list with counts", lambda: counts_of_all(fleet.db), 3)
    timed("pause of the model they share", one.pause, 1)
    timed("resume", one.resume, 1)
    timed("sweep", lambda: sweep(fleet.db))
    timed("doctor", lambda: list(examine(fleet.settings)), 1)
    timed("a producer connects", one.start_producer, 3)
    timed("a worker starts and stops", one.start_worker, 1)
    timed("migrate, with nothing to do", lambda: migrate(fleet.settings.database), 1)
    timed("drop", one.drop, 5)


def roles_and_dump(one: One) -> None:
    fleet, timed = one.fleet, one.timed
    timed("migrate --roles, the first time", lambda: set_up_roles(fleet.settings.database), 1)
    timed("migrate --roles, again", lambda: set_up_roles(fleet.settings.database), 1)
    timed("migrate with roles, nothing to do", lambda: migrate(fleet.settings.database), 1)
    dump = [str(postgres_programs() / "pg_dump"), "--schema-only", fleet.settings.database]
    started = time.perf_counter()
    done = subprocess.run(dump, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    said = done.stderr.strip().splitlines()[:1]
    print(f"pg_dump --schema-only: {seconds:.1f} s, {len(done.stdout) / 1e6:.1f} MB", *said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--collections", type=int, default=1_000)
    most = parser.parse_args().collections
    print(machine())
    with scratch_fleet() as fleet:
        one = One(fleet)
        for count in (10, most):
            while one.made < count:
                one.create()
            measure(one)
        roles_and_dump(one)


if __name__ == "__main__":
    main()
