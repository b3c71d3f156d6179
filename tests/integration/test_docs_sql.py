"""The blocks of SQL, Python and commands in the documents, run in order on real servers."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

import embedfleet as ef
from embedfleet.cli import main
from embedfleet.fleet import Fleet
from embedfleet.stack.wheels import postgres_programs
from plugins.documents import DOCUMENTS, ROOT, Block, blocks
from plugins.fleets import drain
from plugins.worker_processes import eventually

FOLLOWED = ("README.md", "docs/getting-started.md")
ABOUT_SQL = ("docs/sql-cookbook.md", "docs/operations.md")
MODEL = "fake/16"
ITERATIVE = "SET LOCAL hnsw.iterative_scan = relaxed_order;"
QUESTION = "reset the password"
POISON = "a text that no model takes"
# psql's way to write a variable: :'name' as a literal, :name as it is.
VARIABLE = re.compile(r"(?<!:):(?:'(\w+)'|([a-z]\w+))")
# They run until they are stopped, or belong to another stack.
NOT_HERE = {"demo", "up", "down", "worker", "watch"}


class Reader:
    """Follows a document from top to bottom, with one connection and one interpreter."""

    def __init__(self, fleet: Fleet, connection: psycopg.Connection[Any]) -> None:
        self._fleet = fleet
        self._connection = connection
        self._names: dict[str, object] = {}
        self.ran = 0

    def follow(self, block: Block) -> None:
        run = {"sql": self._run_sql, "python": self._run_python, "sh": self._run_commands}
        run[block.language](block)

    def close(self) -> None:
        """Give back the connections of fleets that the document's Python opened."""
        for value in self._names.values():
            if isinstance(value, Fleet):
                value.close()

    def _run_sql(self, block: Block) -> None:
        if "\\g" in block.text:
            self._run_in_psql(block)
            return
        statement = VARIABLE.sub(self._value, block.text)
        cursor = self._connection.execute(sql.SQL(statement))
        while True:
            # A query of the documents that finds nothing shows nothing.
            assert cursor.description is None or cursor.fetchall(), f"{block}: no rows"
            self.ran += 1
            if not cursor.nextset():
                return

    def _run_in_psql(self, block: Block) -> None:
        """As it would be typed there; the variables that it sets are gone at its end."""
        url = self._fleet.settings.direct_database
        command = [postgres_programs() / "psql", "--no-psqlrc", "--set=ON_ERROR_STOP=1", url]
        ended = subprocess.run(
            command, input=block.text, capture_output=True, text=True, check=False
        )
        assert 0 == ended.returncode, f"{block}: {ended.stderr}"
        assert re.search(r"^\([1-9]\d* rows?\)$", ended.stdout, re.MULTILINE), f"{block}: no rows"
        self.ran += 1

    def _value(self, variable: re.Match[str]) -> str:
        docs = self._fleet.collection("handbook")
        values: dict[str, sql.Composable] = {
            "vector": sql.Literal(str(docs.embed_query(QUESTION).tolist())),
            "question": sql.Literal(QUESTION),
            "dimensions": sql.Literal(docs.info.space.dimensions),
            "documents": sql.Identifier("embedfleet", docs.info.documents),
            "chunks": sql.Identifier("embedfleet", docs.info.chunks),
            "texts": sql.Identifier("embedfleet", docs.info.texts),
        }
        return values[variable[1] or variable[2]].as_string(self._connection)

    def _run_python(self, block: Block) -> None:
        exec(compile(_with_our_model(block.text), str(block), "exec"), self._names)  # noqa: S102
        self.ran += 1

    def _run_commands(self, block: Block) -> None:
        for line in _with_our_model(block.text).splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["embedfleet"] and words[1] not in NOT_HERE:
                assert main(words[1:]) == 0, f"{block}: {line}"
                self.ran += 1


@pytest.fixture
def reader(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    """A reader in the root of the repository, whose environment names the test's servers."""
    monkeypatch.setenv("EMBEDFLEET_DATABASE_URL", fleet.settings.database)
    monkeypatch.setenv("EMBEDFLEET_REDIS_URL", fleet.settings.redis)
    monkeypatch.chdir(ROOT)
    with psycopg.connect(fleet.settings.direct_database, autocommit=True) as connection:
        reader = Reader(fleet, connection)
        yield reader
        reader.close()


@pytest.fixture
def handbook(fleet: Fleet, worker: Any) -> None:
    """What the pages about SQL speak of: documents, failures, what waits, a provider batch."""
    docs = fleet.collection("handbook", model=MODEL)
    docs.enqueue(
        [
            ef.Document(
                "vpn.md",
                chunks=["Reset the password of the VPN.", "Log in again.", "Call the desk."],
                metadata={"lang": "en", "team": "it"},
            ),
            ef.Document("leave.md", "Ask for holidays.", {"lang": "en", "team": "people"}),
            ef.Document("urlaub.md", "Urlaub wird beantragt.", {"lang": "de", "team": "people"}),
            ef.Document("bad.md", POISON),
            ef.Document("empty.md", " "),
        ]
    )
    drain(worker(fake_faults=f"poison={POISON}"))
    docs.enqueue([ef.Document("waiting.md", "This one waits for a worker.")])
    with fleet.db.transaction() as conn:
        insert = "INSERT INTO embedfleet.provider_batch (space_id, state) VALUES (%s, 'done')"
        conn.execute(insert, (docs.info.space_id,))
    eventually(fleet.workers)


def _with_our_model(text: str) -> str:
    # The servers are the test's, beside which the embedded stack's workers are not started.
    return text.replace("all-MiniLM-L6-v2", MODEL).replace("connect(workers=2)", "connect()")


@pytest.mark.parametrize("page", ABOUT_SQL)
def test_every_statement_of_a_page_about_sql_runs_and_shows_something(reader, handbook, page):
    for block in blocks(ROOT / page, "sql", "python"):
        reader.follow(block)
    assert reader.ran > 0


@pytest.mark.parametrize("page", FOLLOWED)
def test_a_page_can_be_followed_from_top_to_bottom(reader, embedding, page):
    for block in blocks(ROOT / page, "sql", "python", "sh"):
        reader.follow(block)
    assert reader.ran > 0


def test_every_page_with_sql_is_among_those_above():
    pages = {path for path in DOCUMENTS if any(blocks(path, "sql"))}
    assert {ROOT / page for page in (*FOLLOWED, *ABOUT_SQL)} == pages


def test_every_statement_that_an_index_may_serve_scans_until_its_limit_is_met():
    pages = [block for page in ABOUT_SQL for block in blocks(ROOT / page, "sql")]
    nearest = re.compile(r"ORDER BY (\w+\.)?embedding")
    served = [
        block for block in pages if nearest.search(block.text) and "EXPLAIN" not in block.text
    ]
    assert served
    assert [] == [str(block) for block in served if ITERATIVE not in block.text]
