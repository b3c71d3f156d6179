"""Texts, keys, metadata and passwords stay where they belong: canaries go through everything."""

import itertools
import math
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import psycopg
import pytest
import redis

import embedfleet as ef
from embedfleet.fleet import Fleet
from embedfleet_schema.settings import load_settings
from plugins.worker_processes import WorkerProcess, eventually

TASK = b"embedfleet.embed"
KEY = "canary-key"
METADATA = "canary-metadata"
TEXT = "canary-text"
DATABASE_PASSWORD = "canary-database-password"  # noqa: S105 - made up here
REDIS_PASSWORD = "canary-redis-password"  # noqa: S105 - the same

FAULTS = f"latency=0.05;poison={TEXT} that is poison;quote=careless"


def logged_in(url: str, user: str, password: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{user}:{password}@{parts.hostname}:{parts.port}").geturl()


@pytest.fixture
def fleet(migrated_url: str, redis_url: str) -> Iterator[Fleet]:
    """A fleet whose users have canaries for passwords."""
    with (
        redis.Redis.from_url(redis_url) as client,
        psycopg.connect(migrated_url, autocommit=True) as conn,
    ):
        user = {"enabled": True, "keys": ["*"], "channels": ["*"], "categories": ["+@all"]}
        client.acl_setuser("canary", passwords=[f"+{REDIS_PASSWORD}"], **user)
        conn.execute(f"CREATE ROLE canary LOGIN SUPERUSER PASSWORD '{DATABASE_PASSWORD}'")
        settings = load_settings(
            database_url=logged_in(migrated_url, "canary", DATABASE_PASSWORD),
            redis_url=logged_in(redis_url, "canary", REDIS_PASSWORD),
            batch_tokens_cpu=64,
        )
        with Fleet(settings) as fleet:
            yield fleet
        client.acl_deluser("canary")
        conn.execute("DROP OWNED BY canary CASCADE; DROP ROLE canary")


def documents() -> Iterator[ef.Document]:
    for number in range(60):
        text = f"{TEXT} number {number}"
        if number == 30:
            text = f"{TEXT} that is poison"
        if number == 31:
            text = f"{TEXT} in careless hands"
        yield ef.Document(f"{KEY}-{number}", text, {"note": METADATA})
    yield ef.Document(f"{KEY}-nul", f"{TEXT} \0")
    yield ef.Document(f"{KEY}-nan", TEXT, {METADATA: math.nan, "note": METADATA})
    yield ef.Document(f"{KEY}-object", TEXT, {"note": {METADATA}})


def broker_contents(client: redis.Redis) -> bytes:
    """All keys with all values, the messages that no worker has acknowledged too."""
    read: dict[bytes, Callable[[bytes], object]] = {
        b"list": lambda key: client.lrange(key, 0, -1),
        b"hash": client.hgetall,
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1),
        b"string": client.get,
        b"none": lambda _: "gone in between",
    }
    return repr([(key, read[client.type(key)](key)) for key in client.scan_iter()]).encode()


def rows(fleet: Fleet, statement: str) -> str:
    with fleet.db.transaction() as conn:
        return repr(conn.execute(statement).fetchall())


@pytest.fixture
def embedded(
    fleet: Fleet, worker_process: Callable[..., WorkerProcess]
) -> tuple[list[WorkerProcess], bytes]:
    """The workers that took the canaries through, and what the broker held meanwhile."""
    docs = fleet.collection("docs", model="fake/16")
    workers = [
        worker_process(level="DEBUG", fake_faults=FAULTS, max_attempts="1"),
        worker_process(level="INFO", pool="prefork", fake_faults=FAULTS, max_attempts="1"),
    ]
    eventually(lambda: len(fleet.workers()) == len(workers))
    contents = b""
    job = docs.enqueue(documents())
    with redis.Redis.from_url(fleet.settings.redis) as client:
        for number in itertools.count():
            while not job.status.finished:
                contents += broker_contents(client)
            if TASK in contents and all(map(took_part, workers)):
                break
            # One of them was done before the other, or this loop, had begun.
            more = (f"{number}-{each}" for each in range(60))
            job = docs.enqueue(ef.Document(f"{KEY}-{name}", f"{TEXT} {name}") for name in more)
    for worker in workers:
        worker.end()
    return workers, contents


def took_part(worker: WorkerProcess) -> bool:
    log = worker.log.read_text()
    return "split" in log or "done" in log


def test_no_text_no_key_and_no_password_gets_out(fleet, embedded, command):
    workers, contents = embedded
    failures = fleet.collection("docs").failures()
    assert {"INPUT_REJECTED", "EMBEDDING_FAILED", "NUL_BYTE", "BAD_METADATA"} == {
        failure.code for failure in failures
    }
    reasons = {failure.reason for failure in failures}
    assert {"ValueError", "InputAtFault: its message quotes the text and is left out"} <= reasons
    assert TASK in contents
    passwords = (DATABASE_PASSWORD, REDIS_PASSWORD)
    secret = (TEXT, METADATA, *passwords)
    assert [] == hits(contents.decode(), KEY, *secret)
    for worker in workers:
        assert [] == hits(worker.log.read_text(), KEY, *secret)
    for statement in (
        "SELECT reason FROM embedfleet.batch",
        "SELECT code, reason FROM embedfleet.failure",
        "SELECT w::text FROM embedfleet.worker AS w",
    ):
        assert [] == hits(rows(fleet, statement), KEY, *secret), statement
    for words in (("status",), ("status", "--json"), ("doctor",), ("doctor", "--json")):
        printed = command(*words)
        assert [] == hits(printed.out + printed.err, KEY, *secret), words
    for words in (("failures", "docs"), ("explain", "docs", f"{KEY}-30")):
        printed = command(*words)
        assert KEY in printed.out
        assert [] == hits(printed.out + printed.err, *secret), words


@pytest.mark.parametrize("words", [("status",), ("doctor",), ("worker",), ("migrate",)])
def test_errors_of_connections_name_no_password(command, monkeypatch, words):
    for name, scheme in (("DATABASE", "postgresql"), ("REDIS", "redis")):
        url = f"{scheme}://canary:{DATABASE_PASSWORD}@127.0.0.1:1/0"
        monkeypatch.setenv(f"EMBEDFLEET_{name}_URL", url)
    printed = command("--debug", *words)
    assert 1 == printed.code
    assert "127.0.0.1:1" in printed.out + printed.err
    assert [] == hits(printed.out + printed.err, DATABASE_PASSWORD)


def hits(printed: str, *canaries: str) -> list[str]:
    """The lines that a canary got into."""
    return [line for line in printed.splitlines() if any(each in line for each in canaries)]
