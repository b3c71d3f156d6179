"""A reader who follows a document from top to bottom, on a real fleet: commands, Python and SQL."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO, TextIOWrapper
from itertools import chain
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

import embedfleet as ef
from embedfleet.cli import main
from embedfleet.fleet import Fleet
from embedfleet.stack.wheels import postgres_programs
from plugins.documents import Block
from plugins.fleets import ask

MODEL = "fake/16"
QUESTION = "reset the password"
# What stands in for models that are not on this machine.
MODELS = {
    "all-MiniLM-L6-v2": MODEL,
    "BAAI/bge-small-en-v1.5": "fake/24",
    # The servers are the test's, beside which the embedded stack's workers are not started.
    "connect(workers=2)": "connect()",
}
# Programs that a block calls and the tests do not, and why.
PROGRAMS = {
    "git": "there is no network",
    "pip": "the tests run in an environment that is installed; test_dist.py installs another one",
    "python3": "makes that environment",
    "make": "targets that have runs of their own",
    "celery": "runs until it is stopped; test_local_workers.py starts it",
    ".venv/bin/python": "an interpreter to type into",
    "curl": "asks a console; test_http_api.py has one",
    "docker": "needs Docker",
    "kubectl": "needs a cluster; test_kubernetes.py reads what it would apply",
    "valkey-cli": "rights in a server that all tests share; test_broker_users.py has them",
    "psql": "roles and tables of a server of yours; test_roles.py and test_grants.py make them",
    "pg_dump": "a backup of a server of yours",
    "createdb": "the same",
    "pg_restore": "the same",
    "openssl": "makes secrets",
    "shell": "the lines of a script around one of these programs",
}
SHELL = {
    ".",
    "cd",
    "echo",
    "umask",
    "for",
    "[",
    "done",
    "printf",
    "touch",
    "chmod",
    "sed",
    "tar",
    "mkdir",
}
# Commands and blocks of Python and SQL that are not run, and why: by what stands in them.
NOT_HERE = {
    r"^embedfleet (worker|watch)\b": "runs until it is stopped; test_local_workers.py starts it",
    r"^embedfleet console": "runs until it is stopped; test_http_api.py and tests/browser use it",
    r"^embedfleet exporter --port": "runs until it is stopped; test_cli_exporter.py stops it",
    r"acme/small": "needs a package of somebody else; test_plugins.py has one",
    r"azure\.identity|boto3": "needs a cloud; test_database_passwords.py asks a function",
    r"--rerank\b|rerank=": "needs a reranker of the hub; test_reranked_searches.py makes one",
    r"rds_iam|SCHEMA extensions": "for a server of a cloud; test_poolers.py has such a schema",
    r"--(watch|interactive)\b": "runs until it is stopped; test_watched_folders.py stops it",
    r"^embedfleet migrate --roles": "roles of the whole server; test_role_setup.py makes them",
    r"^embedfleet collection grant": "roles of the whole server; test_grants.py makes them",
    r"s3://": "needs a store of objects; test_object_stores.py has one",
    r"^embedfleet import postgresql:": "needs tables of others; test_foreign_tables.py has them",
    r"^embedfleet import pgai": "needs pgai's tables; test_pgai.py has them",
    r"bge-m3|nomic-ai": "needs a model of the hub",
    r"provider[-_]batches": "needs a provider with a batch API; test_provider_batches.py has one",
    r"^embedfleet resume \w+/": "needs a model that is paused; test_cli_paused.py has one",
    r"^embedfleet resume 7": "needs a job that its budget paused; test_budgets.py has one",
    r"--webhook": "needs a receiver on the network; test_webhooks.py has one",
    r"openai/.* --(sample|budget)": "needs a paid key",
}
VARIABLE = re.compile(r"(?<!:):(?:'(\w+)'|([a-z]\w+))")
_JOB = re.compile(r"^((?:status|resume|pause|cancel)(?: .*)?) \d+\b")
ASSIGNMENT = re.compile(r"\w+=")
# They name servers and passwords: here, those of the test.
SERVERS = re.compile("_(URL|COMMAND|PROXIES|CA_FILES)$")


@dataclass
class Reader:
    """One connection, one interpreter, one shell's environment."""

    fleet: Fleet
    connection: psycopg.Connection[Any]
    set_variable: Callable[[str, str], None]
    names: dict[str, object] = field(default_factory=dict)
    ran: int = 0

    def follow(self, block: Block) -> None:
        run = {"sql": self._run_sql, "python": self._run_python, "sh": self._run_commands}
        run[block.language](block)

    def close(self) -> None:
        """Give back the connections of fleets that the document's Python opened."""
        for value in self.names.values():
            if isinstance(value, Fleet) and value is not self.fleet:
                value.close()

    def _run_sql(self, block: Block) -> None:
        if reason_of(block.text):
            return
        if "\\g" in block.text:
            self._run_in_psql(block)
            return
        statement = VARIABLE.sub(self._value, block.text)
        cursor = self.connection.execute(sql.SQL(statement))
        while True:
            # A query of the documents that finds nothing shows nothing.
            assert cursor.description is None or cursor.fetchall(), f"{block}: no rows"
            self.ran += 1
            if not cursor.nextset():
                return

    def _run_in_psql(self, block: Block) -> None:
        """As it would be typed there; the variables that it sets are gone at its end."""
        url = self.fleet.settings.direct_database
        command = [postgres_programs() / "psql", "--no-psqlrc", "--set=ON_ERROR_STOP=1", url]
        ended = subprocess.run(
            command, input=block.text, capture_output=True, text=True, check=False
        )
        assert 0 == ended.returncode, f"{block}: {ended.stderr}"
        assert re.search(r"^\([1-9]\d* rows?\)$", ended.stdout, re.MULTILINE), f"{block}: no rows"
        self.ran += 1

    def _value(self, variable: re.Match[str]) -> str:
        docs = self.fleet.collection("handbook")
        values: dict[str, sql.Composable] = {
            "vector": sql.Literal(str(docs.embed_query(QUESTION).tolist())),
            "question": sql.Literal(QUESTION),
            "dimensions": sql.Literal(docs.info.space.dimensions),
            "documents": sql.Identifier("embedfleet", docs.info.documents),
            "chunks": sql.Identifier("embedfleet", docs.info.chunks),
            "texts": sql.Identifier("embedfleet", docs.info.texts),
        }
        return values[variable[1] or variable[2]].as_string(self.connection)

    def _run_python(self, block: Block) -> None:
        if reason_of(block.text):
            return
        exec(compile(with_models_of_ours(block.text), str(block), "exec"), self.names)  # noqa: S102
        self.ran += 1

    def _run_commands(self, block: Block) -> None:
        said = ""
        for line, words in commands_of(block):
            if words[0] == "echo":
                said = f"{' '.join(words[1:])}\n"
            if not left_out(words):
                self._run_command(words, said if "|" in line else "", f"{block}: {line}")

    def _run_command(self, words: list[str], said: str, where: str) -> None:
        while words and ASSIGNMENT.match(words[0]):
            name, _, value = words.pop(0).partition("=")
            if not SERVERS.search(name):
                self.set_variable(name, value)
        if not words:
            return
        _, *arguments = words
        typed = with_models_of_ours(shlex.join(arguments))
        words = shlex.split(_JOB.sub(rf"\1 {self._latest_job()}", typed))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdin", TextIOWrapper(BytesIO(said.encode())))
            code = main(words)
        assert code == 0, where
        self.ran += 1

    def _latest_job(self) -> int:
        rows = ask(self.fleet, "SELECT coalesce(max(id), 0) FROM embedfleet.job")
        return int(rows[0][0])


def commands_of(block: Block) -> Iterator[tuple[str, list[str]]]:
    """Each line, with the words of each of its commands: `a && b` are two, and so are `a | b`."""
    for line in block.text.replace("\\\n", " ").splitlines():
        command: list[str] = []
        for word in [*shlex.split(line, comments=True), "&&"]:
            if word in {"&&", "||", ";", "|"}:
                if command:
                    yield line, command
                command = []
            elif command or word != "export":
                command.append(word.removesuffix(";"))


def left_out(words: list[str]) -> str | None:
    """What of the lists above a command is, if it is not run."""
    calls = (word.partition("$(")[2].partition(" ")[0] for word in words if "$(" in word)
    plain = (word for word in words if not ASSIGNMENT.match(word))
    program = next(chain(calls, plain), "embedfleet")
    if program != "embedfleet":
        return "shell" if program in SHELL else program
    return reason_of(shlex.join(word for word in words if not ASSIGNMENT.match(word)))


def reason_of(text: str) -> str | None:
    return next((each for each in NOT_HERE if re.search(each, text)), None)


def with_models_of_ours(text: str, models: Mapping[str, str] = MODELS) -> str:
    for name, ours in models.items():
        text = text.replace(name, ours)
    return text


def known_names(fleet: Fleet) -> dict[str, object]:
    """What a page that does not begin with an import speaks of."""
    return {
        "ef": ef,
        "fleet": fleet,
        "docs": fleet.collection("handbook"),
        "documents": [ef.Document("canteen.md", "The canteen is on the second floor.")],
    }


@pytest.fixture
def reader(fleet: Fleet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Reader]:
    """A reader in a folder with some files, whose environment names the test's servers."""
    monkeypatch.setenv("EMBEDFLEET_DATABASE_URL", fleet.settings.database)
    monkeypatch.setenv("EMBEDFLEET_REDIS_URL", fleet.settings.redis)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    with psycopg.connect(fleet.settings.direct_database, autocommit=True) as connection:
        reader = Reader(fleet, connection, monkeypatch.setenv)
        yield reader
        reader.close()


FILES = {
    "docs/desk.md": "# Desk\n\n## Repairs\n\nThe desk repairs what is broken.\n",
    "docs/travel.txt": "Book a journey in the portal, two weeks before it.\n",
    "queries.jsonl": '{"_id": "q1", "text": "how do I get a new password?"}\n',
    "qrels.tsv": "query-id\tcorpus-id\tscore\nq1\tvpn.md\t2\n",
}
