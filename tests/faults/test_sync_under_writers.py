"""Many writers, and processes that are killed in between: the collection ends as the table is."""

import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.fleets import ask, drain
from plugins.synced_tables import ARTICLES, FOLLOWED, ROWS, in_table, run, texts
from plugins.worker_processes import eventually

SIZES = [
    pytest.param(300, id="short"),
    pytest.param(100_000, id="long", marks=[pytest.mark.nightly, pytest.mark.timeout(7_200)]),
]
WRITERS = 8
LONG_S = 3_000


class Followers:
    """Processes that follow all syncs, to be killed."""

    def __init__(self, fleet):
        self._environment = {
            **os.environ,
            "EMBEDFLEET_DATABASE_URL": fleet.settings.database,
            "EMBEDFLEET_REDIS_URL": fleet.settings.redis,
        }
        self.running = []

    def start(self):
        command = [sys.executable, "-m", "embedfleet", "sync", "run"]
        self.running.append(
            subprocess.Popen(command, env=self._environment, stderr=subprocess.DEVNULL)
        )

    def kill_one(self):
        process = self.running.pop(0)
        process.kill()
        process.wait()

    def end(self):
        for process in self.running:
            process.terminate()
        for process in self.running:
            process.wait(60)


@pytest.fixture
def followers(fleet):
    made = Followers(fleet)
    yield made
    made.end()


def settled(fleet, sync):
    """Everything is followed and embedded."""
    eventually(lambda: sync.status.backfilled_at and not sync.status.behind, timeout_s=LONG_S)
    docs = fleet.collection("articles")
    eventually(lambda: not docs.audit().waiting, timeout_s=LONG_S)
    found = docs.audit()
    assert (0, 0, 0) == (found.missing, found.extra, found.waiting_documents)
    assert 0 == sync.verify().differences


def embedded(fleet):
    return sum(job.embedded for job in fleet.statuses(limit=1_000))


def change(conn, rng, rows):
    """One statement or a few, of a kind that an application runs, now and then undone."""
    key = rng.randint(1, rows)
    word = rng.getrandbits(64)
    with conn.transaction(force_rollback=rng.random() < 0.1):
        match rng.randrange(6):
            case 0:
                conn.execute("DELETE FROM public.articles WHERE id = %s", (key,))
            case 1:
                conn.execute(
                    "INSERT INTO public.articles (id, title, body) VALUES (%s, %s, 'new')"
                    " ON CONFLICT (id) DO UPDATE SET title = excluded.title",
                    (key, str(word)),
                )
            case 2:
                statement = "UPDATE public.articles SET body = %s WHERE id BETWEEN %s AND %s"
                conn.execute(statement, (str(word), key, key + 3))
            case 3:
                conn.execute("UPDATE public.articles SET views = %s WHERE id = %s", (1, key))
            case 4:
                conn.execute(
                    "UPDATE public.articles AS a SET id = %s WHERE id = %s AND NOT EXISTS"
                    " (SELECT FROM public.articles WHERE id = %s)",
                    (key + rows, key, key + rows),
                )
            case _:
                conn.execute("DELETE FROM public.articles WHERE id = %s", (key,))
                conn.execute(
                    "INSERT INTO public.articles (id, body) VALUES (%s, %s) ON CONFLICT DO NOTHING",
                    (key, str(word)),
                )


def write(url, seed, rows, count):
    rng = random.Random(seed)
    with psycopg.connect(url, autocommit=True) as conn:
        for _ in range(count):
            # Of writers among themselves.
            with suppress(psycopg.errors.DeadlockDetected, psycopg.errors.UniqueViolation):
                change(conn, rng, rows)


@pytest.mark.parametrize("rows", SIZES)
def test_a_table_is_followed_through_all_that_happens_to_it(fleet, worker_process, followers, rows):
    ask(fleet, ARTICLES)
    ask(fleet, ROWS, 1, rows)
    sync = fleet.sync("articles", "fake/16", **FOLLOWED)
    workers = [worker_process(slots=2) for _ in range(2)]
    followers.start()
    followers.start()
    eventually(lambda: sync.status.backfilled, timeout_s=LONG_S)
    workers.pop().kill()
    followers.kill_one()
    workers.append(worker_process(slots=2))
    settled(fleet, sync)
    assert rows == embedded(fleet) == len(texts(fleet))

    tenth = max(1, rows // 10)
    some = f"(SELECT id FROM public.articles ORDER BY md5(id::text) LIMIT {tenth})"
    run(fleet, f"UPDATE public.articles SET body = 'changed ' || id WHERE id IN {some}")
    run(fleet, f"UPDATE public.articles SET views = 1 WHERE id IN {some}")
    workers.pop().kill()
    workers.append(worker_process(slots=2))
    settled(fleet, sync)
    assert rows + tenth == embedded(fleet)

    run(
        fleet,
        f"DELETE FROM public.articles WHERE id IN {some.replace(str(tenth), str(tenth // 10))}",
    )
    settled(fleet, sync)
    assert (rows + tenth, in_table(fleet)) == (embedded(fleet), texts(fleet))

    followers.start()
    url = fleet.settings.direct_database
    with ThreadPoolExecutor(WRITERS) as pool:
        under_way = [pool.submit(write, url, seed, rows, rows // 5) for seed in range(WRITERS)]
        eventually(lambda: sync.status.behind)
        followers.kill_one()
        workers.pop().kill()
        workers.append(worker_process(slots=2))
        for each in under_way:
            each.result()
    settled(fleet, sync)
    assert in_table(fleet) == texts(fleet)

    before = embedded(fleet)
    with psycopg.connect(url) as conn:
        conn.execute("TRUNCATE public.articles")
        with conn.cursor().copy("COPY public.articles (id, title, body) FROM STDIN") as copy:
            for number in range(1, rows + 1):
                copy.write_row((number, f"again {number}", "copied"))
    settled(fleet, sync)
    assert (before + rows, in_table(fleet)) == (embedded(fleet), texts(fleet))


KEYS = st.integers(1, 5)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, st.sampled_from(["one", "two", "", "three"])),
        st.tuples(st.just("delete"), KEYS, st.none()),
        st.tuples(st.just("move"), KEYS, KEYS),
        st.tuples(st.just("empty"), st.none(), st.none()),
        st.tuples(st.just("follow"), st.none(), st.none()),
        st.tuples(st.just("undone"), KEYS, st.none()),
    ),
    max_size=12,
)
PUT = (
    "INSERT INTO public.articles (id, title) VALUES (%s, %s)"
    " ON CONFLICT (id) DO UPDATE SET title = excluded.title"
)


def step(conn, kind, key, value):
    match kind:
        case "put":
            conn.execute(PUT, (key, value))
        case "delete":
            conn.execute("DELETE FROM public.articles WHERE id = %s", (key,))
        case "move":
            conn.execute("DELETE FROM public.articles WHERE id = %s AND id <> %s", (value, key))
            conn.execute("UPDATE public.articles SET id = %s WHERE id = %s", (value, key))
        case "empty":
            conn.execute("TRUNCATE public.articles")
        case "undone":
            with conn.transaction(force_rollback=True):
                conn.execute("DELETE FROM public.articles WHERE id = %s", (key,))


def test_whatever_is_done_to_a_table_in_whatever_order_it_is_followed(fleet, worker):
    ask(fleet, ARTICLES)
    sync = fleet.sync("articles", "fake/16", **FOLLOWED)
    runtime = worker()

    @settings(max_examples=25)
    @given(STEPS)
    def holds(steps):
        with psycopg.connect(fleet.settings.direct_database, autocommit=True) as conn:
            conn.execute("TRUNCATE public.articles")
            for kind, key, value in steps:
                if kind == "follow":
                    sync.catch_up()
                else:
                    step(conn, kind, key, value)
        sync.catch_up()
        drain(runtime)
        assert {key: text for key, text in in_table(fleet).items() if text} == texts(fleet)
        assert 0 == sync.verify(mend=False).differences

    holds()
