"""What metrics cost: a page of the exporter, and the processor time of a worker that counts.

The fake model embeds the same documents in rounds in this process, with metrics and without them in
turns. Then the page is asked for over HTTP, of a fleet with 100 collections, each with batches that
wait, failures and usage: looked for each time, and again from the memory of the exporter.
"""

from __future__ import annotations

import argparse
import statistics
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server

import embedfleet as ef
from _scratch import Server, machine, scratch_fleet
from embedfleet.exporter import CACHE_S, Exporter
from embedfleet_workers.monitoring.instruments import Instruments
from embedfleet_workers.monitoring.metrics_folder import MetricsFolder
from embedfleet_workers.runtime import Launch, Runtime
from growth import documents

PORT = 19_465
LOOKS = 50
PROCESSES = 8
HELD_BATCHES = 40


def fill(fleet: ef.Fleet, collections: int, worker: Runtime) -> None:
    """Collections with something of everything."""
    for number in range(collections):
        docs = fleet.collection(f"c{number}", model="fake/32")
        docs.enqueue([*documents(number * 1_000, 100), ef.Document("bad", "")])
    while worker.run_one("cpu") != "idle":
        pass
    for number in range(collections):
        docs = fleet.collection(f"c{number}", model="fake/32")
        docs.enqueue(documents(1_000_000 + number * 10_000, HELD_BATCHES * 50))
    with fleet.db.transaction() as conn:
        conn.execute(
            "INSERT INTO embedfleet.usage (day, space_id, job_id, requests, texts, tokens, usd)"
            " SELECT (now() AT TIME ZONE 'UTC')::date, s.id, j.id, 10, 100, 1000, 0.01"
            " FROM embedfleet.space AS s CROSS JOIN embedfleet.job AS j"
        )


def look_s(registry: Any, port: int) -> Iterator[float]:
    """Seconds of each of some looks at a page."""
    server, thread = start_http_server(port, "127.0.0.1", registry)
    for _ in range(LOOKS):
        began = time.monotonic()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
            answer.read()
        yield time.monotonic() - began
    server.shutdown()
    server.server_close()
    thread.join()


def told(seconds: list[float]) -> str:
    quick, slow = statistics.median(seconds), sorted(seconds)[int(0.95 * len(seconds))]
    return f"median {quick * 1e3:5.1f} ms, 95 % {slow * 1e3:5.1f} ms"


def registry_of(collector: Any) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    return registry


def pages(fleet: ef.Fleet, folder: MetricsFolder, server: Server) -> None:
    for cache_s, what in ((0.0, "looked for each time"), (CACHE_S, "from its memory")):
        exporter = Exporter(fleet.settings, cache_s=cache_s)
        exporter.samples()
        own, postgres = time.process_time(), server.processor_s()
        looks = told(list(look_s(registry_of(exporter), PORT)))
        own, postgres = time.process_time() - own, server.processor_s() - postgres
        print(
            f"exporter, {what}: {looks}; processor: {own / LOOKS * 1e3:.1f} ms, and PostgreSQL's "
            f"{postgres / LOOKS * 1e3:.1f} ms",
            flush=True,
        )
        exporter.close()
    # As many processes as a host may have: their files are copies of this one's.
    for kind in ("counter", "histogram", "gauge_livesum"):
        for path in folder.path.glob(f"{kind}_*.db"):
            for number in range(1, PROCESSES):
                (folder.path / f"{kind}_copy{number}.db").write_bytes(path.read_bytes())
            break
    print(f"a host with {PROCESSES} processes: {told(list(look_s(registry_of(folder), PORT)))}")


def round_us(fleet: ef.Fleet, worker: Runtime, server: Server, chunks: int) -> tuple[float, float]:
    """Microseconds of processor time for each chunk: of this process, and with PostgreSQL's."""
    docs = fleet.collection("round", model="fake/32")
    docs.enqueue(documents(0, chunks))
    own, all_s = time.process_time(), server.processor_s()
    while worker.run_one("cpu") != "idle":
        pass
    own, all_s = time.process_time() - own, server.processor_s() - all_s
    docs.drop()
    return own / chunks * 1e6, (own + all_s) / chunks * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--collections", type=int, default=100)
    parser.add_argument("--chunks", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=8)
    given = parser.parse_args()
    print(machine())
    folder = MetricsFolder(PORT)
    folder.choose()
    with scratch_fleet(batch_tokens_cpu=1_024) as fleet:
        worker = Runtime(fleet.settings, Launch(("cpu",), 1, 1))
        worker.start()
        server = Server(fleet)
        round_us(fleet, worker, server, given.chunks)
        without: list[tuple[float, float]] = []
        counting: list[tuple[float, float]] = []
        for number in range(given.rounds):
            # Which of the two comes first changes from round to round.
            for counts in (True, False) if number % 2 else (False, True):
                folder.enter()
                instruments = Instruments(("cpu",), "cpu")
                if counts:
                    instruments.start()
                found = round_us(fleet, worker, server, given.chunks)
                (counting if counts else without).append(found)
                if counts:
                    instruments.stop()
                folder.leave()
        own = statistics.median(a[0] - b[0] for a, b in zip(counting, without, strict=True))
        of_worker = statistics.median(each[0] for each in without)
        of_all = statistics.median(each[1] for each in without)
        print(
            f"metrics: {own:+.2f} us of processor time a chunk: {own / of_worker:+.2%} of the "
            f"worker's {of_worker:.1f} us, {own / of_all:+.2%} of all {of_all:.1f} us",
            flush=True,
        )
        fill(fleet, given.collections, worker)
        worker.stop()
        pages(fleet, folder, server)
    for path in folder.path.iterdir():
        path.unlink()
    folder.path.rmdir()


if __name__ == "__main__":
    main()
