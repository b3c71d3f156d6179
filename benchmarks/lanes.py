"""What lanes and tenants are worth: how long a small job takes beside a backlog, what the backlog
loses by it, how equally two tenants are served, and what a claim costs among many of them.

The model is the null model (`fake/16`): what is measured is the fleet. Each comparison alternates
between its two sides, because other work on the machine is never the same for long.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
from psycopg import sql

import embedfleet as ef
from _scratch import machine, scratch_fleet, workers
from embedfleet_schema.database import Database
from embedfleet_schema.migrate import migrate
from embedfleet_schema.settings import load_settings
from embedfleet_schema.store.batches import Batches

MODEL = "fake/16"
WORDS = 40
SMALL_JOB = 10
PUT_BATCHES = """
WITH made AS (
    INSERT INTO embedfleet.job (collection_id, kind, tenant, loaded_at)
    SELECT %(collection)s, 'enqueue', 't' || n, now() FROM generate_series(1, %(tenants)s) AS n
    RETURNING id
)
INSERT INTO embedfleet.batch
    (job_id, collection_id, space_id, queue, state, start_tag, chunks, tokens, texts)
SELECT m.id, %(collection)s, %(space)s, 'cpu', 'pending', 8000.0 * n, 20, 8000, '{1}'
FROM made AS m CROSS JOIN generate_series(1, %(batches)s) AS n
"""
DONE = """
SELECT coalesce(sum(chunks), 0)::bigint FROM embedfleet.batch
WHERE state = 'done' AND job_id = %s
"""
DONE_BY_TENANT = """
SELECT coalesce(sum(b.tokens) FILTER (WHERE j.tenant = 'one'), 0)::bigint,
    coalesce(sum(b.tokens) FILTER (WHERE j.tenant = 'two'), 0)::bigint
FROM embedfleet.batch AS b JOIN embedfleet.job AS j ON j.id = b.job_id
WHERE b.state = 'done' AND j.tenant IN ('one', 'two')
"""


def texts(prefix: str, documents: int) -> Iterator[ef.Document]:
    """Documents of one chunk each, with no word in common."""
    for n in range(documents):
        yield ef.Document(f"{prefix}{n}", " ".join(f"{prefix}{n}w{word}" for word in range(WORDS)))


def ask(fleet: ef.Fleet, statement: str, *values: object) -> tuple[int, ...]:
    with fleet.db.transaction() as conn:
        row: tuple[int, ...] | None = conn.execute(statement.encode(), values).fetchone()
        return row or ()


def small_jobs(docs: ef.Collection, numbers: Iterator[int], seconds: float) -> list[float]:
    """One after the other for so long: seconds from the call until all of it is searchable."""
    until, took = time.monotonic() + seconds, []
    while time.monotonic() < until:
        began = time.monotonic()
        job = docs.enqueue(texts(f"small{next(numbers)}x", SMALL_JOB))
        while not job.status.finished:
            time.sleep(0.02)
        took.append(time.monotonic() - began)
        time.sleep(0.3)
    return took


def latency(fleet: ef.Fleet, chunks: int, rounds: int, seconds: float) -> None:
    docs, numbers = fleet.collection("docs", model=MODEL), count()
    backlog = docs.enqueue(texts("backlog", chunks), lane="bulk")
    waits: list[float] = []
    rates: dict[str, list[float]] = {"alone": [], "beside small jobs": []}
    with workers(fleet, 2):
        time.sleep(seconds)
        for number in range(2 * rounds):
            beside = number % 2 == 1
            before, began = ask(fleet, DONE, backlog.id)[0], time.monotonic()
            if beside:
                waits += small_jobs(docs, numbers, seconds)
            else:
                time.sleep(seconds)
            done, lasted = ask(fleet, DONE, backlog.id)[0] - before, time.monotonic() - began
            rates["beside small jobs" if beside else "alone"].append(done / lasted)
        left = backlog.status.queued
    if not left:
        message = f"the backlog ended too soon: give more than --chunks {chunks}"
        raise RuntimeError(message)
    p50, p95 = statistics.median(waits), statistics.quantiles(waits, n=20)[-1]
    alone, beside_small = (statistics.median(each) for each in rates.values())
    print(f"{len(waits)} jobs of {SMALL_JOB} documents beside a backlog of {chunks:,} chunks:")
    print(f"  until searchable: median {p50:.2f} s, 95 of 100 within {p95:.2f} s")
    print(f"  backlog: {alone:,.0f} chunks/s alone, {beside_small:,.0f} beside them", end=" ")
    print(f"({beside_small / alone:.0%}), {left:,} chunks left")


def fairness(fleet: ef.Fleet, chunks: int) -> None:
    docs = fleet.collection("shared", model=MODEL)
    for tenant in ("one", "two"):
        docs.enqueue(texts(tenant, chunks), lane="bulk", tenant=tenant)
    apart: list[float] = []
    with workers(fleet, 2):
        while True:
            one, two = ask(fleet, DONE_BY_TENANT)
            if max(one, two) >= 0.95 * chunks * WORDS:
                break
            # Before that, the batches that a worker takes at once are much of what both have.
            if max(one, two) >= 0.5 * chunks * WORDS:
                apart.append(abs(one - two) / max(one, two))
            time.sleep(0.1)
    print(f"two tenants of weight 1, {chunks:,} chunks each, the second enqueued after the first,")
    print(f"  from half of them on, in {len(apart)} looks: their tokens differ by", end=" ")
    print(f"{statistics.median(apart):.1%}, at most {max(apart):.1%}, while both wait")


@contextmanager
def another_database(fleet: ef.Fleet) -> Iterator[str]:
    """The URL of a database with our tables, on the server of a fleet."""
    name = sql.Identifier(f"bench_{uuid4().hex}")
    with psycopg.connect(fleet.settings.database, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(name))
        try:
            url = urlsplit(fleet.settings.database)._replace(path=f"/{name.as_string(None)[1:-1]}")
            migrate(url.geturl())
            yield url.geturl()
        finally:
            conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def claims(fleet: ef.Fleet, tenants: int, times: int) -> None:
    took: dict[int, list[float]] = {1: [], tenants: []}
    with another_database(fleet) as one, another_database(fleet) as many:
        claimers: dict[int, Batches] = {}
        for waiting, url in ((1, one), (tenants, many)):
            settings = load_settings(database_url=url, redis_url=fleet.settings.redis)
            info = ef.Fleet(settings).collection("docs", model=MODEL).info
            values = {"collection": info.id, "space": info.space_id, "tenants": waiting}
            with psycopg.connect(url, autocommit=True) as conn:
                conn.execute(PUT_BATCHES.encode(), values | {"batches": 1_000})
                conn.execute("VACUUM ANALYZE embedfleet.batch")
            claimers[waiting] = Batches(Database(url), owner=uuid4(), lease_seconds=600.0)
        for turn in range(times + 20):
            for waiting, batches in claimers.items():
                began = time.perf_counter()
                if batches.claim("cpu") is None:
                    message = f"nothing to claim among {waiting} tenants"
                    raise RuntimeError(message)
                # The first ones read catalogs, and prepare statements.
                if turn >= 20:
                    took[waiting].append(time.perf_counter() - began)
    alone, among = (1e3 * statistics.median(each) for each in took.values())
    print(f"claim, median of {times}: {alone:.2f} ms with one tenant of 1,000 batches,", end=" ")
    print(f"{among:.2f} ms among {tenants:,} of them ({among / alone:.2f} x)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=100_000, help="of the backlog")
    parser.add_argument("--rounds", type=int, default=4, help="pairs of measured spans")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each span")
    parser.add_argument("--tenants", type=int, default=1_000, help="with 1,000 batches each")
    parser.add_argument("--claims", type=int, default=300)
    parser.add_argument("--only", choices=("latency", "fairness", "claims"))
    given = parser.parse_args()
    print(machine())
    if given.only in (None, "latency"):
        with scratch_fleet() as fleet:
            latency(fleet, given.chunks, given.rounds, given.seconds)
    if given.only in (None, "fairness"):
        with scratch_fleet() as fleet:
            fairness(fleet, given.chunks // 2)
    if given.only in (None, "claims"):
        with scratch_fleet() as fleet:
            claims(fleet, given.tenants, given.claims)


if __name__ == "__main__":
    main()
