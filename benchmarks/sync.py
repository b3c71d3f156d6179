"""What following a table costs who writes to it, and how long a change takes until it is found.

`bulk` and `single` write to a synced table and to one like it in turns: an INSERT of many rows, and
UPDATEs of one row. `change` updates one row of an idle fleet, again and again, and asks the view
for it. `backfill` reads a table that was there before, and compares it.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import psycopg

import embedfleet as ef
from _scratch import machine, processor_s, scratch_fleet, workers

TABLE = """
CREATE TABLE public.{name} (
    id int PRIMARY KEY, title text, body text, lang text, views int DEFAULT 0
)
"""
# Rows of about 600 bytes.
FILL = """
INSERT INTO public.{name} (id, title, body, lang)
SELECT n, 'title ' || n, repeat(md5(n::text) || ' ', 16), 'en'
FROM generate_series(1, {rows}) AS n
"""
SYNC: dict[str, Any] = {"key": "id", "text": ["title", "body"], "metadata": "lang"}
SETTLE_S = 120.0


@contextmanager
def following(fleet: ef.Fleet) -> Iterator[None]:
    """The command that follows all syncs."""
    data = str(fleet.settings.data)
    command = [sys.executable, "-m", "embedfleet", "--data", data, "sync", "run"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def bulk(_: ef.Fleet, conn: psycopg.Connection[Any], rows: int, rounds: int) -> None:
    """Of the server's processor, which says the same beside other work."""
    backend = psutil.Process(conn.info.backend_pid)
    bodies = [(n, f"title {n}", f"{n:032x} " * 16, "en") for n in range(1, rows + 1)]

    def copied(name: str) -> None:
        columns = "id, title, body, lang"
        with conn.cursor().copy(f"COPY public.{name} ({columns}) FROM STDIN") as copy:
            for row in bodies:
                copy.write_row(row)

    def inserted(name: str) -> None:
        conn.execute(FILL.format(name=name, rows=rows))

    for way, write in (("INSERT ... SELECT", inserted), ("COPY by a client", copied)):
        spent: dict[str, list[tuple[float, float]]] = {"plain": [], "synced": []}
        for number in range(rounds + 1):
            for name, found in spent.items():
                conn.execute(f"TRUNCATE public.{name}")
                before, started = processor_s(backend), time.perf_counter()
                write(name)
                # The first one warms up.
                if number:
                    found.append((processor_s(backend) - before, time.perf_counter() - started))
        for what, place in (("processor", 0), ("clock", 1)):
            plain, synced = ([each[place] for each in spent[name]] for name in spent)
            ratios = sorted(b / a for a, b in zip(plain, synced, strict=True))
            print(
                f"{way}, {rows:,} rows, s of {what}: {statistics.median(plain):.2f},"
                f" synced {statistics.median(synced):.2f}; ratio {statistics.median(ratios):.2f}"
                f" ({ratios[0]:.2f} to {ratios[-1]:.2f})",
                flush=True,
            )


def single(_: ef.Fleet, conn: psycopg.Connection[Any], rows: int, rounds: int) -> None:
    statements = {
        "plain": "UPDATE public.plain SET body = %s WHERE id = %s",
        "synced": "UPDATE public.synced SET body = %s WHERE id = %s",
        "plain, another column": "UPDATE public.plain SET views = length(%s) WHERE id = %s",
        "synced, another column": "UPDATE public.synced SET views = length(%s) WHERE id = %s",
    }
    spent: dict[str, list[float]] = {name: [] for name in statements}
    for number in range(rounds):
        for name, statement in statements.items():
            started = time.perf_counter()
            conn.execute(statement, (f"words of round {number}", number % rows + 1))
            spent[name].append((time.perf_counter() - started) * 1e3)
    for name, times in spent.items():
        print(
            f"{name}: p50 {statistics.median(times):.3f} ms,"
            f" p10 {statistics.quantiles(times, n=10)[0]:.3f} ms"
        )


def change(fleet: ef.Fleet, conn: psycopg.Connection[Any], rows: int, rounds: int) -> None:
    found = "SELECT FROM embedfleet.synced WHERE document = %s AND content LIKE %s"
    took: list[float] = []
    with following(fleet), workers(fleet, 1):
        sync = fleet.sync("synced")
        wait(lambda: bool(sync.status.waits and not sync.status.behind))
        wait(lambda: fleet.collection("synced").counts().vectors >= rows)
        for number in range(rounds):
            # The fleet is idle again.
            time.sleep(0.3)
            word, key = f"news{number}", number % rows + 1
            conn.execute("UPDATE public.synced SET title = %s WHERE id = %s", (word, key))
            started = time.perf_counter()
            wait(lambda: conn.execute(found, (str(key), f"{word}%")).rowcount == 1)  # noqa: B023
            took.append(time.perf_counter() - started)
    ordered = sorted(took)
    print(
        f"change -> searchable: p50 {statistics.median(took):.2f} s,"
        f" p95 {ordered[int(0.95 * len(ordered))]:.2f} s, at most {ordered[-1]:.2f} s"
    )


def backfill(fleet: ef.Fleet, conn: psycopg.Connection[Any], rows: int, _: int) -> None:
    conn.execute(TABLE.format(name="large"))
    conn.execute(FILL.format(name="large", rows=rows))
    sync = fleet.sync("large", "fake/16", table="large", **SYNC)
    started = time.perf_counter()
    sync.catch_up()
    print(f"backfill: {rows / (time.perf_counter() - started):,.0f} rows/s")
    started = time.perf_counter()
    found = sync.verify()
    print(f"verify: {rows / (time.perf_counter() - started):,.0f} rows/s")
    assert found.differences == 0


def wait(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + SETTLE_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


CASES: dict[str, tuple[Callable[[ef.Fleet, psycopg.Connection[Any], int, int], None], int, int]] = {
    "bulk": (bulk, 100_000, 5),
    "single": (single, 10_000, 2_000),
    "change": (change, 1_000, 100),
    "backfill": (backfill, 20_000, 1),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=CASES, action="append")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--rounds", type=int)
    given = parser.parse_args()
    print(machine())
    for name in given.case or CASES:
        run, rows, rounds = CASES[name]
        with (
            scratch_fleet() as fleet,
            psycopg.connect(fleet.settings.direct_database, autocommit=True) as conn,
        ):
            for table in ("plain", "synced"):
                conn.execute(TABLE.format(name=table))
            sync = fleet.sync("synced", "fake/16", table="synced", **SYNC)
            if name in ("single", "change"):
                for table in ("plain", "synced"):
                    conn.execute(FILL.format(name=table, rows=given.rows or rows))
                if name == "single":
                    sync.pause()
            run(fleet, conn, given.rows or rows, given.rounds or rounds)


if __name__ == "__main__":
    main()
