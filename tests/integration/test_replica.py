"""A real read replica that streams from its primary: searches work there, and what must write says
so in one line.
"""

from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import errors
from pydantic import SecretStr

import embedfleet as ef
from embedfleet.stack import postgres_settings, up
from embedfleet.stack.files import Folder
from embedfleet.stack.ports import LOOPBACK, candidates
from embedfleet.stack.processes import run, server_account
from embedfleet.stack.wheels import postgres_programs
from embedfleet_schema.database_errors import ReadOnlyDatabase
from embedfleet_schema.errors import EmbedfleetError
from embedfleet_schema.migrate import migrate
from plugins.fleets import drain, small_fleet, workers_of
from plugins.servers import stack_folder
from plugins.worker_processes import eventually

COUNT = 300
STREAMING = "wal_level = 'replica'\nmax_wal_senders = '4'\nfsync = off\n"


class Pair:
    """A primary, and its replica, which is started once the primary holds something."""

    def __init__(self, data: Path) -> None:
        render = postgres_settings.render
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(postgres_settings, "render", lambda: render() + STREAMING)
            self.primary = up(data)
        self._folder = Folder(data)
        self._home = self._folder.postgres / "replica"
        self._account = server_account(self._folder.postgres)

    def start_replica(self) -> str:
        """Copy the primary and follow it; returns the replica's URL."""
        url = urlsplit(self.primary.database_url)
        source = f"host={url.hostname} port={url.port} user={url.username} password={url.password}"
        self._call(
            "pg_basebackup", "-D", self._home, "-R", "-X", "stream", "-c", "fast", "-d", source
        )
        port = next(candidates(None))
        where = f"-h {LOOPBACK} -p {port} -k ''"
        self._call("pg_ctl", "start", "-w", "-D", self._home, "-l", self._home / "log", "-o", where)
        password = f"{url.username}:{url.password}"
        return url._replace(netloc=f"{password}@{LOOPBACK}:{port}").geturl()

    def stop_replica(self) -> None:
        self._call("pg_ctl", "stop", "-m", "immediate", "-D", self._home)

    def _call(self, program: str, *words: object) -> None:
        command = [postgres_programs() / program, *map(str, words)]
        done = run(command, self._account, self._folder.postgres)
        assert 0 == done.returncode, done.stderr


@pytest.fixture(scope="module")
def pair():
    with stack_folder() as data:
        made = Pair(data)
        migrate(made.primary.database_url)
        with small_fleet(made.primary.database_url, made.primary.redis_url) as fleet:
            docs = fleet.collection("docs", model="fake/16")
            docs.add_column("n", "int")
            docs.enqueue(ef.Document(f"d{n}", f"text {n}", {"n": n}) for n in range(COUNT))
            with workers_of(fleet) as worker:
                drain(worker())
            docs.index(memory_mb=8, workers=0)
            docs.index_words()
        made.replica_url = made.start_replica()
        yield made
        made.stop_replica()


@pytest.fixture
def primary(pair):
    with small_fleet(pair.primary.database_url, pair.primary.redis_url) as fleet:
        yield fleet


@pytest.fixture
def replica(pair):
    with small_fleet(pair.replica_url, pair.primary.redis_url) as fleet:
        yield fleet


SEARCHES = {
    "by the index": lambda docs: docs.search("question"),
    "a filter": lambda docs: docs.search("question", where={"n": {"gte": 290}}),
    "exact": lambda docs: docs.search("question", k=600),
    "words": lambda docs: docs.hybrid_search("text 7"),
    "that differ": lambda docs: docs.diverse("question", k=3),
    "like a document": lambda docs: docs.similar("d7"),
    "duplicates": lambda docs: docs.duplicates(0.3),
    "chunks": lambda docs: docs.chunks(["d7", "d8"]),
    "documents": lambda docs: list(docs.documents()),
    "counts": lambda docs: (docs.counts().vectors, docs.index_info(), docs.columns()),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_on_the_replica_finds_what_it_finds_on_the_primary(primary, replica, name):
    found = [SEARCHES[name](fleet.collection("docs")) for fleet in (primary, replica)]
    assert found[0]
    assert found[0] == found[1]


def test_what_is_stored_on_the_primary_comes_to_the_replica(primary, replica):
    docs, copy = primary.collection("docs"), replica.collection("docs")
    docs.enqueue([ef.Document("new", "a new text")])
    with workers_of(primary) as worker:
        drain(worker())
    vector = [1.0] * 16
    eventually(lambda: copy.search(vector, k=400, where={"document": "new"}))
    docs.delete(["new"])
    eventually(lambda: not copy.search(vector, k=400, where={"document": "new"}))


def test_the_cache_of_queries_misses_there_and_is_left_alone(primary, replica, provider):
    options = {"openai_api_key": SecretStr("key"), "openai_base_url": provider().url}
    where = {"model": "openai/bench-model", "dimensions": 64, "max_tokens": 100}
    primary.collection("paid", **where)
    settings = replica.settings.model_copy(update=options)
    with ef.Fleet(settings) as fleet:
        eventually(lambda: "paid" in [each.name for each in fleet.collections()])
        assert [] == fleet.collection("paid").search("a question")
        assert [] == fleet.collection("paid").search("another one")
    with primary.db.transaction() as conn:
        assert [] == conn.execute("SELECT space_id FROM embedfleet.query_vector").fetchall()


WRITES = {
    "enqueue": lambda fleet: fleet.collection("docs").enqueue([ef.Document("x", "y")]),
    "delete": lambda fleet: fleet.collection("docs").delete(["d7"]),
    "create": lambda fleet: fleet.collection("other", model="fake/16"),
    "drop": lambda fleet: fleet.collection("docs").drop(),
    "index": lambda fleet: fleet.collection("docs").rebuild_index(),
    "column": lambda fleet: fleet.collection("docs").add_column("m", "int"),
    "settings": lambda fleet: fleet.collection("docs").set_index(ef_search=200),
    "repair": lambda fleet: fleet.collection("docs").audit(repair=True),
}


@pytest.mark.parametrize("name", WRITES)
def test_what_writes_is_refused_in_one_line_that_names_the_way(primary, replica, name):
    with pytest.raises(ReadOnlyDatabase, match=r"replica.*EMBEDFLEET_DATABASE_URL") as refused:
        WRITES[name](replica)
    assert 1 == len(str(refused.value).splitlines())
    assert COUNT == primary.collection("docs").counts().documents


def test_a_migration_and_a_question_by_sql_name_the_primary_too(replica):
    with pytest.raises(EmbedfleetError, match="replica"):
        migrate(replica.settings.database)
    with psycopg.connect(replica.settings.database, autocommit=True) as conn:
        with pytest.raises(errors.ReadOnlySqlTransaction, match="on a replica"):
            conn.execute("CALL embedfleet.embed('docs', 'a question', NULL)")
        vector = str([1.0] * 16)
        found = conn.execute("SELECT id FROM embedfleet.search('docs', %s, 5)", [vector])
        assert 5 == len(found.fetchall())


def test_the_command_searches_there(pair, command, monkeypatch):
    monkeypatch.setenv("EMBEDFLEET_DATABASE_URL", pair.replica_url)
    monkeypatch.setenv("EMBEDFLEET_REDIS_URL", pair.primary.redis_url)
    assert 3 == len(command("search", "docs", "a question", "-k", "3", "--json").json)
    refused = command("delete", "docs", "d7")
    assert 1 == refused.code
    assert "read replica" in refused.err
