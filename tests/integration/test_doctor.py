"""Each fault that `doctor` knows is injected, found by its code, and explained in docs/doctor.md.

Most are in one database at once: none hides another.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit
from uuid import uuid4

import numpy as np
import psycopg
import pytest
import redis
from psycopg import sql
from pydantic import SecretStr

from embedfleet.cli import (
    database_diagnosis,
    diagnosis,
    index_diagnosis,
    model_diagnosis,
    server_diagnosis,
)
from embedfleet.cli.finding import Fault
from embedfleet.cli.mending import MENDS
from embedfleet.fleet import Fleet
from embedfleet_schema import requirements
from embedfleet_schema.database import LOCK_SPACE
from embedfleet_schema.errors import ExtraMissing
from embedfleet_schema.plugin_errors import PluginBroken
from embedfleet_schema.settings import Settings, load_settings
from embedfleet_schema.store import server_health
from embedfleet_schema.store.server_health import Slot
from embedfleet_workers import versions
from plugins.documents import ROOT
from plugins.faked_clocks import faked_time
from plugins.filled_collections import fill
from plugins.fleets import ask, documents, small_fleet
from plugins.servers import administrator, fresh_database

HOUR_S = 3_600
WORKER = """
INSERT INTO embedfleet.worker
    (id, hostname, pid, queues, slots, device, version, heartbeat_seconds, last_seen, reason)
VALUES (%s, 'host', %s, '{cpu}', %s, 'cpu', '0', %s, now() - interval '10 min', %s)
"""
STATISTICS = "UPDATE pg_class SET reltuples = %s WHERE oid = %s::regclass"
BROKEN = "UPDATE pg_index SET indisvalid = false WHERE indrelid = %s::regclass AND NOT indisprimary"
KEPT = """
INSERT INTO embedfleet.model_change
    (collection_id, other_id, name, keep_seconds, listed, switched_at)
VALUES (%s, %s, 'huge', 0, true, now() - interval '1 s')
"""


@pytest.fixture(scope="module")
def fleet(stack, template_database) -> Iterator[Fleet]:
    """One for all tests."""
    with (
        fresh_database(stack, template_database) as url,
        small_fleet(url, stack.redis_url) as fleet,
    ):
        yield fleet


def codes(settings: Settings) -> set[Fault | None]:
    return {finding.code for finding in diagnosis.examine(settings)} - {None}


@pytest.fixture(scope="module")
def healthy(fleet) -> set[Fault | None]:
    """What is found where nothing was done to the fleet."""
    with pytest.MonkeyPatch.context() as patch:
        # What this machine lacks is no fault of the fleet.
        patch.setattr(diagnosis, "_installed", lambda _: True)
        return codes(fleet.settings)


# What is done to the fleet before it is examined, by the fault that this is.
SICK: dict[Fault, Callable[["Patient"], object]] = {}


class Patient:
    """The fleet, what is patched for as long as it is sick, and a place for what has to end."""

    def __init__(self, fleet: Fleet, patch: pytest.MonkeyPatch, end: ExitStack) -> None:
        self.fleet, self.patch, self.end = fleet, patch, end
        self.statistics: dict[str, float] = {}

    def ask(self, statement: str, *values: object) -> list:
        return ask(self.fleet, statement, *values)

    def collection(self, name: str, model: str = "fake/16", *, rows: int = 0, **options: object):
        """A new one of the model, or the one of the name."""
        if name in {each.name for each in self.fleet.collections()}:
            return self.fleet.collection(name)
        docs = self.fleet.collection(name, model=model, **options)
        if rows:
            vectors = np.random.default_rng(3).normal(size=(rows, 16)).astype(np.float32)
            fill(self.fleet, docs, vectors, [{"year": n} for n in range(rows)])
            self.ask("SELECT pg_stat_force_next_flush()")
            self.ask("ANALYZE")
        return docs

    def rows(self, table: str, count: float) -> None:
        """What the statistics say in the end."""
        self.statistics[f"embedfleet.{table}"] = count

    def space(self, name: str, values: str) -> None:
        """Change what is known of a collection's model."""
        self.ask(
            f"UPDATE embedfleet.space SET {values}"
            f" WHERE id = (SELECT space_id FROM embedfleet.collection WHERE name = '{name}')"
        )

    def database(self, setting: str) -> None:
        name = urlsplit(self.fleet.settings.database).path.removeprefix("/")
        self.ask(f'ALTER DATABASE "{name}" SET {setting}')

    def other(self) -> psycopg.Connection:
        return self.end.enter_context(psycopg.connect(self.fleet.settings.database))


def fault(code: Fault) -> Callable:
    def register(inject: Callable[[Patient], object]) -> Callable[[Patient], object]:
        assert code not in SICK
        SICK[code] = inject
        return inject

    return register


@fault(Fault.FILTER_INDEX_MISSING)
def _(patient):
    docs = patient.collection("plain", rows=20, filter_index=False)
    patient.rows(docs.info.chunks, 100_000)


@fault(Fault.INDEX_MISSING)
def _(patient):
    patient.rows(patient.collection("bare").info.vectors, 20_000)


@fault(Fault.INDEX_MEMORY)
def _(patient):
    patient.rows(patient.collection("huge").info.vectors, 1e9)


@fault(Fault.INDEX_INVALID)
def _(patient):
    docs = patient.collection("torn", rows=20)
    docs.index(memory_mb=8, workers=0)
    patient.ask(BROKEN, f"embedfleet.{docs.info.vectors}")


@fault(Fault.INDEX_GROWN)
def _(patient):
    docs = patient.collection("grown", rows=200)
    docs.index(memory_mb=8, workers=0)
    patient.patch.setattr(index_diagnosis, "LEAST_BYTES", 1)
    patient.rows(docs.info.vectors, 1)


@fault(Fault.INDEX_IMPOSSIBLE)
def _(patient):
    patient.collection("wide", "fake/24")
    patient.space("wide", "dimensions = 5000, metric = 'l2', normalized = false")


@fault(Fault.DEAD_ROWS)
def _(patient):
    docs = patient.collection("holey", rows=40)
    docs.index(memory_mb=8, workers=0)
    patient.patch.setattr(index_diagnosis, "LEAST_DEAD", 10)
    # In one session, which tells what it did before it takes the next statement.
    with patient.fleet.db.transaction() as conn:
        conn.execute(f"DELETE FROM embedfleet.{docs.info.vectors} WHERE text_id > 10")
        conn.execute("SELECT pg_stat_force_next_flush()")


@fault(Fault.AUTOVACUUM_OFF)
def _(patient):
    table = patient.collection("holey").info.vectors
    patient.ask(f"ALTER TABLE embedfleet.{table} SET (autovacuum_enabled = false)")


@fault(Fault.TRANSACTION_OLD)
def _(patient):
    patient.patch.setattr(server_diagnosis, "OLD_TRANSACTION_S", 0.0)
    patient.other().execute("SELECT 1")


@fault(Fault.LOCK_HELD)
def _(patient):
    patient.patch.setattr(database_diagnosis, "HELD_LONG_S", 0.0)
    number = patient.collection("bare").info.id
    patient.other().execute("SELECT pg_advisory_lock(%s, %s)", (LOCK_SPACE, number))


@fault(Fault.COMMITS_LATE)
def _(patient):
    patient.database("synchronous_commit = off")


@fault(Fault.STATEMENT_TIMEOUT)
def _(patient):
    patient.database("statement_timeout = '2s'")


@fault(Fault.SCANS_CAPPED)
def _(patient):
    patient.database("hnsw.iterative_scan = off")


@fault(Fault.SCHEMA_OPEN)
def _(patient):
    patient.ask("GRANT CREATE ON SCHEMA public TO PUBLIC")


@fault(Fault.LOCKS_SHORT)
def _(patient):
    patient.patch.setattr(requirements, "SHARE_OF_LOCKS", 1e-6)


@fault(Fault.PGVECTOR_OLD)
def _(patient):
    patient.patch.setattr(versions, "PGVECTOR_ADVISED", (99, 0, 0))


@fault(Fault.REDIS_OLD)
def _(patient):
    patient.patch.setattr(versions, "VALKEY_FIXED", (99, 0, 0))


@fault(Fault.REDIS_EVICTS)
def _(patient):
    client = redis.Redis.from_url(patient.fleet.settings.redis)
    patient.end.callback(client.close)
    patient.end.callback(client.config_set, "maxmemory-policy", "noeviction")
    client.config_set("maxmemory-policy", "allkeys-lru")


@fault(Fault.WORKERS_DEAD)
def _(patient):
    patient.ask(WORKER, uuid4(), 1, 1, 15, None)


@fault(Fault.WORKER_WAITS)
def _(patient):
    patient.ask(WORKER, uuid4(), 2, 1, HOUR_S, "the database has no disk space left")


@fault(Fault.CONNECTIONS_SHORT)
def _(patient):
    patient.ask(WORKER, uuid4(), 3, 200, HOUR_S, None)


@fault(Fault.QUEUE_SILENT)
def _(patient):
    patient.collection("waits").enqueue(documents(3))
    patient.ask("UPDATE embedfleet.batch SET run_after = now() - interval '1 hour'")


@fault(Fault.QUEUE_WITHOUT_WORKER)
def _(patient):
    docs = patient.collection("behind", "openai/nobodys", dimensions=16, max_tokens=100)
    docs.enqueue(documents(1))


@fault(Fault.PRICE_MISSING)
def _(patient):
    """Of the same model: the catalogue does not know it."""
    patient.collection("behind")


@fault(Fault.SPACE_WITHOUT_WORKER)
def _(patient):
    patient.ask("UPDATE embedfleet.collection SET queue = 'cuda' WHERE name = 'bare'")


@fault(Fault.SPACE_PAUSED)
def _(patient):
    patient.collection("ends", "gemini/gemini-embedding-001")
    pause = "paused_at = now(), pause_code = 'insufficient_quota', pause_reason = 'no money'"
    patient.space("ends", pause)


@fault(Fault.MODEL_ENDS)
def _(patient):
    patient.collection("ends")


@fault(Fault.MODEL_KEPT)
def _(patient):
    numbers = [patient.collection(name).info.id for name in ("huge", "wide")]
    patient.ask(KEPT, *numbers)


@fault(Fault.MODEL_ABSENT)
def _(patient):
    patient.collection("absent", "fake/32")
    patient.space("absent", "provider = 'local', model = '/nowhere/model'")


@fault(Fault.MODEL_OFFLINE)
def _(patient):
    from huggingface_hub import constants

    patient.collection("offline", "fake/48")
    patient.space("offline", "provider = 'local', model = 'nobody/nothing'")
    patient.patch.setattr(constants, "HF_HUB_OFFLINE", True)


@fault(Fault.CHUNKS_TOO_LONG)
def _(patient):
    patient.ask("UPDATE embedfleet.collection SET chunk_size = 1000000 WHERE name = 'bare'")


@fault(Fault.LIMIT_LEARNT)
def _(patient):
    def learnt(database, url):
        assert database.url == patient.fleet.settings.database
        yield "gemini/x let 6 requests pass. If you know better, set it: embedfleet limits set"

    # How a fleet learns them: tests/integration/test_cli_limits.py.
    patient.patch.setattr(diagnosis, "learnt", learnt)


@fault(Fault.EXTRA_MISSING)
def _(patient):
    patient.patch.setattr(diagnosis, "_installed", lambda package: package != "openai")


@fault(Fault.ENGINE_MISSING)
def _(patient):
    def missing(_):
        raise ExtraMissing(feature="The engine openvino", extra="openvino")

    patient.patch.setattr(model_diagnosis, "find_spec", lambda name: name)
    patient.patch.setattr(model_diagnosis, "expected", missing)


@fault(Fault.EMBEDDER_BROKEN)
def _(patient):
    def broken(provider, _):
        reason = "it is no class"
        raise PluginBroken(model=provider, provider=provider, package="acme", reason=reason)

    # One that is really installed: tests/integration/test_plugins.py.
    patient.patch.setattr(model_diagnosis, "installed", lambda: ["acme"])
    patient.patch.setattr(model_diagnosis, "plugin_class", broken)


@fault(Fault.CHECK_FAILED)
def _(patient):
    def failing(_):
        raise ZeroDivisionError
        yield

    patient.patch.setattr(database_diagnosis, "pooler", failing)


@pytest.fixture(scope="module")
def sick(fleet, healthy) -> set[Fault | None]:
    """What is found where all of them are there at once."""
    with pytest.MonkeyPatch.context() as patch, ExitStack() as end:
        patient = Patient(fleet, patch, end)
        for inject in SICK.values():
            inject(patient)
        for table, count in patient.statistics.items():
            patient.ask(STATISTICS, count, table)
        return codes(fleet.settings)


@pytest.mark.parametrize("code", SICK)
def test_a_fault_is_found_beside_all_others(code, healthy, sick):
    assert code in sick
    assert code not in healthy


def test_a_fleet_needs_nothing_but_workers(healthy):
    assert {Fault.WORKERS_MISSING} == healthy


def test_the_command_says_the_codes_and_fails_where_something_is_broken(fleet, sick, command):
    found = command("doctor", "--json")
    broken = {each["code"] for each in found.json if each["level"] == "broken"}
    assert (1, {"CHUNKS_TOO_LONG"}) == (found.code, broken)
    assert {"QUEUE_SILENT", "PRICE_MISSING", None} <= {each["code"] for each in found.json}
    assert "[CHUNKS_TOO_LONG]" in command("doctor").out


def test_what_is_wrong_says_what_to_do(fleet, sick):
    without = {each.code for each in diagnosis.examine(fleet.settings) if not each.advice}
    # Their texts say it themselves.
    assert without <= {None, Fault.WORKER_WAITS, Fault.INDEX_IMPOSSIBLE}


def test_what_is_safe_to_mend_is_mended_after_a_question(fleet, sick, command):
    answer = command("doctor", "--fix")
    assert (2, "--yes" in answer.err) == (answer.code, True)
    ask(fleet, "UPDATE embedfleet.collection SET queue = 'cpu' WHERE name = 'bare'")
    before = codes(fleet.settings)
    mended = command("doctor", "--fix", "--yes", "--json")
    after = {each["code"] for each in mended.json}
    # What statistics were made to say is said again by them; the other database faults stay.
    assert MENDS.keys() <= before
    assert not MENDS.keys() & after
    assert {"QUEUE_SILENT", "PRICE_MISSING"} <= after
    assert [f"mended: {code}" in mended.err for code in MENDS] == [True] * len(MENDS)


def test_another_encoding_no_pgvector_and_no_tables(stack):
    name = f"ascii_{uuid4().hex}"
    server = administrator(stack)
    create = "CREATE DATABASE {} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0"
    server.execute(sql.SQL(create).format(sql.Identifier(name)))
    try:
        url = urlsplit(stack.database_url)._replace(path=f"/{name}").geturl()
        found = codes(load_settings(database_url=url, redis_url=stack.redis_url))
    finally:
        server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
    assert found >= {Fault.DATABASE_UNSUITABLE, Fault.PGVECTOR_MISSING, Fault.TABLES_MISSING}


@pytest.fixture(scope="module")
def other(stack, template_database) -> Iterator[Settings]:
    """A database with our tables, which something is done to."""
    with fresh_database(stack, template_database) as url:
        yield load_settings(database_url=url, redis_url=stack.redis_url)


@contextmanager
def revision(settings: Settings, number: str) -> Iterator[None]:
    with psycopg.connect(settings.database, autocommit=True) as conn:
        ((before,),) = conn.execute("SELECT version_num FROM embedfleet.alembic_version").fetchall()
        conn.execute("UPDATE embedfleet.alembic_version SET version_num = %s", (number,))
        yield
        conn.execute("UPDATE embedfleet.alembic_version SET version_num = %s", (before,))


@pytest.mark.parametrize(
    ("number", "code"), [("0001", Fault.TABLES_OLD), ("9999", Fault.PROGRAM_OLD)]
)
def test_tables_of_another_version(other, number, code):
    with revision(other, number):
        assert code in codes(other)


def test_code_of_others_on_our_tables(other):
    role = f"owner_{uuid4().hex}"
    with psycopg.connect(other.database, autocommit=True) as conn:
        conn.execute(f"CREATE ROLE {role}")
        conn.execute(f"ALTER SCHEMA embedfleet OWNER TO {role}")
        conn.execute(
            "CREATE FUNCTION public.odd() RETURNS trigger LANGUAGE plpgsql"
            " AS 'BEGIN RETURN NULL; END'"
        )
        conn.execute(
            "CREATE TRIGGER odd AFTER INSERT ON embedfleet.job EXECUTE FUNCTION public.odd()"
        )
        try:
            assert Fault.CODE_OF_OTHERS in codes(other)
        finally:
            conn.execute("DROP FUNCTION public.odd() CASCADE")
            conn.execute("ALTER SCHEMA embedfleet OWNER TO CURRENT_USER")
            conn.execute(f"DROP ROLE {role}")


def test_servers_that_nobody_reaches():
    nowhere = load_settings(
        database_url="postgresql://127.0.0.1:1/none", redis_url="redis://127.0.0.1:1/0"
    )
    assert codes(nowhere) >= {Fault.DATABASE_UNREACHABLE, Fault.REDIS_UNREACHABLE}


def test_an_embedded_stack_that_is_stopped_on_a_full_disk(tmp_path, monkeypatch):
    for name in ("EMBEDFLEET_DATABASE_URL", "DATABASE_URL", "EMBEDFLEET_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    usage = SimpleNamespace(total=100_000_000_000, free=1_000_000)
    monkeypatch.setattr(server_diagnosis.shutil, "disk_usage", lambda _: usage)
    found = codes(load_settings(data=tmp_path / "data"))
    assert found >= {Fault.STACK_STOPPED, Fault.DISK_LOW}


def test_shared_memory_that_is_smaller_than_a_build_takes(fleet):
    facts = replace(
        server_health.facts(fleet.db),
        shared_memory_type="posix",
        parallel_workers=2,
        maintenance_bytes=512_000_000,
    )
    small = [each.code for each in server_diagnosis.shared_memory(facts, 64_000_000)]
    assert [Fault.SHARED_MEMORY_SMALL] == small
    assert [] == list(server_diagnosis.shared_memory(facts, 8_000_000_000))
    elsewhere = replace(facts, shared_memory_type="sysv")
    assert [] == list(server_diagnosis.shared_memory(elsewhere, 64_000_000))


def test_a_replication_slot_that_nobody_reads():
    slots = [Slot("used", 1_000), Slot("left", 5_000_000_000)]
    (found,) = server_diagnosis.slots(slots)
    assert Fault.SLOT_UNUSED == found.code
    assert "pg_drop_replication_slot('left')" in found.advice


def test_a_clock_that_is_an_hour_behind(fleet):
    variables = {
        **faked_time(-HOUR_S),
        "EMBEDFLEET_DATABASE_URL": fleet.settings.database,
        "EMBEDFLEET_REDIS_URL": fleet.settings.redis,
    }
    done = subprocess.run(
        [sys.executable, "-m", "embedfleet", "doctor", "--json"],
        env={**os.environ, **variables},
        capture_output=True,
        check=False,
    )
    (found,) = (each for each in json.loads(done.stdout) if each["subject"] == "clock")
    assert Fault.CLOCK_SKEWED == found["code"]
    assert "behind" in found["found"]


@pytest.mark.pooler
def test_a_pooler_without_the_direct_url(fleet, pooler):
    settings = fleet.settings.model_copy(
        update={"database_url": SecretStr(pooler.through(fleet.settings.database))}
    )
    assert Fault.POOLER_WITHOUT_DIRECT in codes(settings)


def test_each_fault_is_explained_and_injected():
    page = (ROOT / "docs/doctor.md").read_text()
    explained = re.findall(r"^\| `([A-Z_]+)` \|", page, re.MULTILINE)
    assert sorted(Fault) == sorted(explained)
    injected = set(SICK) | set(re.findall(r"Fault\.([A-Z_]+)", Path(__file__).read_text()))
    assert set(Fault) == injected
    for code in MENDS:
        (row,) = (line for line in page.splitlines() if line.startswith(f"| `{code}` |"))
        assert "--fix" in row
