"""A fleet with something of everything that a console shows: jobs that run, wait and failed."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from functools import partial

from embedfleet.fleet import Fleet
from embedfleet_schema.settings import load_settings
from embedfleet_schema.store import limits, usage
from embedfleet_schema.types import Document
from embedfleet_workers.rate_limits.registry import LimiterRegistry
from plugins.command_line import POISON
from plugins.fleets import WorkerMaker, ask, drain

# One that has to be loaded, which nobody does.
LOCAL = "all-MiniLM-L6-v2"
PROVIDED = "openai/text-embedding-3-small"
ATTACK = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
FAILED, LATE = "tickets/4711.md", "archive/2019/minutes.md"

_SENTENCES = {
    "security": [
        "Reset your password in the portal, under Account, Security.",
        "The VPN needs the certificate of your laptop; ask the help desk for a new one.",
        "Report a lost phone within the hour, so that it can be locked.",
        "A password manager is installed on every laptop.",
        "Never send a key by mail; the vault has a link that works once.",
    ],
    "people": [
        "Ask for holidays early in the year, by the calendar of your team.",
        "Sick leave needs a note from the fourth day on.",
        "Parental leave can be divided between both parents.",
        "New colleagues get a guide for their first month.",
        "Working hours are free between seven and nineteen.",
    ],
    "travel": [
        "Book trains before flights; under six hours no flight is paid.",
        "Hotels are paid up to 140 EUR a night.",
        "Keep receipts for taxis and send them within a month.",
        "Travel abroad needs the consent of your lead.",
    ],
    "engineering": [
        "Deployments run on weekdays until three in the afternoon.",
        "Every change is reviewed by one other person.",
        "The on-call engineer carries the phone for one week.",
        "Roll back first, look for the cause second.",
        "Databases are restored from a backup once a quarter, as a drill.",
    ],
}


def settings_for(database_url: str, redis_url: str) -> Fleet:
    """With batches of some documents, as they are in small."""
    settings = load_settings(
        database_url=database_url, redis_url=redis_url, batch_tokens_cpu=256, heartbeat_seconds=2.0
    )
    return Fleet(settings)


def fill(fleet: Fleet, worker: WorkerMaker) -> None:
    """Everything, with the last hour and the last weeks behind it."""
    handbook = fleet.collection("handbook", model="fake/48")
    handbook.enqueue(_handbook())
    tickets = fleet.collection("tickets", model="fake/32")
    tickets.enqueue(_tickets())
    failing = worker(fake_faults=f"poison={POISON}")
    drain(failing)
    tickets.enqueue([Document("tickets/empty.md", "")])
    failing.stop()
    runs = worker()
    backfill = fleet.collection("articles", model="fake/64")
    backfill.enqueue(Document(f"article-{n}", f"An article of number {n}. " * 6) for n in range(60))
    for _ in range(12):
        runs.run_one("cpu")
    _spread_over_the_hour(fleet)
    for _ in range(2):
        runs.run_one("cpu")
    archive = fleet.collection("archive", model="fake/32")
    archive.enqueue(
        [Document(LATE, "Minutes of a meeting."), *_numbered("archive/2019", 12)]
    ).pause()
    fleet.collection("manuals", model=LOCAL, queue="cuda").enqueue(_numbered("manuals", 3))
    fleet.collection("faq", model=PROVIDED)
    fleet.limits.set(PROVIDED, {"requests": 3_000.0, "tokens": 1_000_000.0, "concurrency": 1.0})
    _spend(fleet)


def _handbook() -> Iterator[Document]:
    for team, sentences in _SENTENCES.items():
        for number, sentence in enumerate(sentences):
            metadata = {"team": team, "lang": "en", "page": number + 1}
            yield Document(f"{team}/{number + 1:02}.md", sentence, metadata)
    yield Document("security/copy-of-01.md", f"{_SENTENCES['security'][0]} ", {"team": "security"})


def _tickets() -> Iterator[Document]:
    yield from _numbered("tickets", 20)
    yield Document(FAILED, f"The printer says: {POISON}.", {"priority": 1})
    yield Document(f"{ATTACK}.md", f"{ATTACK} is what a customer wrote.", {ATTACK: ATTACK})


def _numbered(folder: str, count: int) -> Iterator[Document]:
    for number in range(count):
        yield Document(f"{folder}/{number:04}.md", f"Text number {number} of {folder}.")


def _spread_over_the_hour(fleet: Fleet) -> None:
    """As if a worker had been busy for most of it."""
    statement = """
        UPDATE embedfleet.batch AS b
        SET leased_at = least(b.leased_at, now() - (n.ago_s + 2) * interval '1 second'),
            finished_at = now() - n.ago_s * interval '1 second'
        FROM (
            SELECT id, 60 + 3200 * percent_rank() OVER (ORDER BY id DESC) ^ 0.7 AS ago_s
            FROM embedfleet.batch
            WHERE finished_at IS NOT NULL
        ) AS n
        WHERE n.id = b.id
    """
    ask(fleet, statement)


def _spend(fleet: Fleet) -> None:
    space = fleet.collection("faq").info.space_id
    for ago in range(1, 29):
        tokens = 40_000 + 9_000 * ((ago * 7) % 11)
        spent = usage.Spending(ago % 5 + 3, 900, tokens, Decimal(tokens) / 50_000_000)
        with fleet.db.transaction() as conn:
            usage.add(conn, space, spent, job_id=None, worker_id=None)
        today = "(now() AT TIME ZONE 'UTC')::date"
        ask(fleet, f"UPDATE embedfleet.usage SET day = day - %s WHERE day = {today}", ago)


@contextmanager
def a_line_at_the_limit(fleet: Fleet) -> Iterator[None]:
    """One request under way, and one that waits for its place: a limit allows one at once."""
    ready, over = threading.Event(), threading.Event()

    async def wait_in_line() -> None:
        registry = LimiterRegistry(fleet.settings.redis, partial(limits.read, fleet.db))
        limiter = registry.limiter("openai", "text-embedding-3-small", "0123456789abcdef")
        cost = {"requests": 1, "tokens": 600}
        first = await limiter.admit(cost, max_wait_s=60)
        waiting = asyncio.create_task(limiter.admit(cost, max_wait_s=3_000))
        while not over.is_set():
            ready.set()
            await asyncio.sleep(0.2)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await first.settle()
        await registry.close()

    with ThreadPoolExecutor(1) as pool:
        line = pool.submit(asyncio.run, wait_in_line())
        line.add_done_callback(lambda _: ready.set())
        ready.wait()
        try:
            yield
        finally:
            over.set()
        line.result()
