"""A password that changes while a fleet works: whoever opens a connection asks for it anew."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

import embedfleet as ef
from embedfleet.fleet import Fleet
from embedfleet_schema.database import Database, OwnConnection
from embedfleet_schema.database_errors import DatabaseUnreachable
from embedfleet_schema.settings import load_settings
from plugins.fleets import documents
from plugins.servers import fresh_database
from plugins.worker_processes import eventually


@dataclass(frozen=True)
class Account:
    """A user of the server, and the file that his password stands in."""

    conn: psycopg.Connection
    name: str
    file: Path

    @property
    def command(self) -> str:
        return shlex.join(["cat", str(self.file)])

    def password(self) -> str:
        return self.file.read_text().strip()

    def rotate(self) -> None:
        """Change the password, and end the sessions that were opened with the former one."""
        new = uuid4().hex
        change = sql.SQL("ALTER ROLE {} PASSWORD {}")
        self.conn.execute(change.format(sql.Identifier(self.name), sql.Literal(new)))
        self.file.write_text(f"{new}\n")
        end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s"
        self.conn.execute(end, [self.name])


@pytest.fixture
def account(stack, tmp_path):
    with psycopg.connect(stack.database_url, autocommit=True) as conn:
        account = Account(conn, f"rotating_{uuid4().hex[:8]}", tmp_path / "password")
        conn.execute(sql.SQL("CREATE ROLE {} LOGIN SUPERUSER").format(sql.Identifier(account.name)))
        account.rotate()
        yield account
        conn.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(account.name)))


@pytest.fixture
def url(stack, template_database, account):
    """The account's, without a password."""
    with fresh_database(stack, template_database) as url:
        parts = urlsplit(url)
        yield parts._replace(netloc=f"{account.name}@{parts.hostname}:{parts.port}").geturl()


@pytest.fixture
def fleet(url, redis_url, account):
    settings = load_settings(
        database_url=url,
        redis_url=redis_url,
        database_password_command=account.command,
        batch_tokens_cpu=64,
    )
    with Fleet(settings) as fleet:
        yield fleet


def test_workers_clients_and_commands_go_on_when_the_password_was_changed(
    fleet, account, worker_process, command, monkeypatch
):
    monkeypatch.setenv("EMBEDFLEET_DATABASE_PASSWORD_COMMAND", account.command)
    docs = fleet.collection("docs", model="fake/16")
    worker = worker_process()
    assert 20 == docs.enqueue(documents(20)).wait(timeout_s=60).embedded
    former = account.password()
    for n in range(2):
        account.rotate()
        more = documents(20, word=f"changed {n}")
        assert 20 == docs.enqueue(more).wait(timeout_s=60).embedded
    assert worker.process.poll() is None
    assert fleet.workers()
    # What needs a session of its own, and what runs in a process of its own.
    account.rotate()
    assert docs.index(memory_mb=8, workers=0) is not None
    account.rotate()
    assert 0 == command("migrate").code
    account.rotate()
    examined = command("doctor").out
    assert "ok      tables" in examined
    known = (former, account.password())
    log = worker.log.read_text()
    assert not any(word in text for word in known for text in (log, examined))


def test_a_function_is_asked_whenever_a_connection_is_opened(url, redis_url, account):
    asked = []

    def password():
        asked.append(None)
        return account.password()

    with ef.connect(url, redis_url, database_password=password) as fleet:
        assert [] == fleet.collections()
        before = len(asked)
        account.rotate()
        assert [] == fleet.collections()
        assert len(asked) > before
        own = OwnConnection(fleet.db)
        for _ in range(2):
            with own.transaction() as conn:
                assert (account.name,) == conn.execute("SELECT current_user").fetchone()
            account.rotate()
        own.close()
        with fleet.db.direct() as conn:
            conn.execute("LISTEN anything")


def test_a_password_that_is_refused_twice_is_one_line(fleet, account):
    account.file.write_text("wrong\n")
    with pytest.raises(DatabaseUnreachable, match="password authentication failed") as told:
        Database(fleet.settings.database).revision()
    assert "\n" not in str(told.value)
    account.rotate()
    eventually(lambda: Database(fleet.settings.database).revision())
