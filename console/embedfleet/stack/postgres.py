"""PostgreSQL: start, recognise, stop."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from embedfleet.stack import ports, postgres_settings
from embedfleet.stack.files import Folder, last_words, one_line
from embedfleet.stack.initdb import OWN_SETTINGS, ROLE, check_version, initialise
from embedfleet.stack.processes import Account, find, find_all, read_pid, run, stop, wait_until
from embedfleet.stack.wheels import postgres_programs
from embedfleet_schema.private_files import write_private

PROGRAM = "postgres"
DATABASE = "embedfleet"
PORT_LINE, STATUS_LINE = 3, 7  # of postmaster.pid, counted from 0
QUICK_START_SECONDS = 5
RECOVERY_SECONDS = 900.0
ORPHAN_SECONDS = 5.0
STOP = (
    (signal.SIGINT, 60.0),  # fast: roll back, write everything, end
    (signal.SIGQUIT, 30.0),  # at once: the next start recovers from the log
)


@dataclass(frozen=True, slots=True)
class Postmaster:
    """The running server, as its pid file tells."""

    process: psutil.Process
    port: int | None
    state: str  # "starting", "ready", "stopping"; "" in its first moments

    @property
    def ready(self) -> bool:
        return self.state == "ready"


@dataclass(frozen=True, slots=True)
class Postgres:
    """The PostgreSQL server of one data folder."""

    folder: Folder

    def running(self) -> Postmaster | None:
        """The server, ready or still starting; None where only traces of one are left."""
        process = self._process()
        if process is None:
            return None
        try:
            lines = self._pid_file.read_text().splitlines()
        except FileNotFoundError:
            return None
        # A server that has just begun has written the first lines only.
        told = [*(line.strip() for line in lines), *[""] * (STATUS_LINE + 1)]
        port = int(told[PORT_LINE]) if told[PORT_LINE].isdigit() else None
        return Postmaster(process, port, told[STATUS_LINE])

    def ensure(self, account: Account, last_url: str, on_step: Callable[[str], None]) -> str:
        """Start the server unless it runs, create the database unless it is there.

        Returns the URL. Raises StackError.
        """
        if not self.folder.cluster.exists():
            on_step("creating the database")
            initialise(self.folder, account)
        check_version(self.folder)
        account.take(self.folder.postgres)
        server = self.running()
        if server is not None and server.state == "stopping":
            self.stop()
        if self.running() is None:
            on_step("starting PostgreSQL")
            self._start(account, ports.port_of(last_url))
        url = self._url(self._wait_ready(on_step))
        self._create_database(url)
        return url

    def stop(self) -> bool:
        return stop(self._process, STOP)

    @property
    def _pid_file(self) -> Path:
        return self.folder.cluster / "postmaster.pid"

    def _process(self) -> psutil.Process | None:
        return find(read_pid(self._pid_file), PROGRAM, self.folder.cluster)

    def _url(self, server: Postmaster) -> str:
        password = (self.folder.postgres / "password").read_text().strip()
        url = f"postgresql://{ROLE}:{password}@{ports.LOOPBACK}:{server.port}/{DATABASE}"
        # While it is stopped, another program may have the port, and ask for the password itself.
        return f"{url}?require_auth=scram-sha-256"

    def _start(self, account: Account, last_port: int | None) -> None:
        self._end_orphans()
        self._drop_stale_pid_file()
        own_settings = self.folder.cluster / OWN_SETTINGS
        write_private(own_settings, postgres_settings.render())
        account.take(own_settings)
        began = time.time()
        for port in ports.candidates(last_port):
            complaint = self._launch(account, port)
            if self.running() is not None:
                return
            if ports.is_free(port):
                break  # the port was not the reason
        reason = last_words(self.folder.logs.glob("postgresql-*.log"), began) or complaint
        raise self.folder.error("start PostgreSQL", f"{reason} (logs: {self.folder.logs})")

    def _launch(self, account: Account, port: int) -> str:
        """Have pg_ctl start the server in a session of its own; returns what pg_ctl complains of.

        Paths are relative, because pg_ctl hands them to a shell.
        """
        start_log = self.folder.logs / "postgresql-start.log"
        start_log.unlink(missing_ok=True)
        done = run(
            [
                *(postgres_programs() / "pg_ctl", "start", "--wait"),
                *("--timeout", str(QUICK_START_SECONDS), "--pgdata", "."),
                *("--log", f"../../{self.folder.logs.name}/{start_log.name}"),
                *("--options", f"-h {ports.LOOPBACK} -p {port} -k ''"),
            ],
            account,
            self.folder.cluster,
        )
        return one_line(done.stderr)

    def _end_orphans(self) -> None:
        """End what a killed server left behind; it would hold the shared memory."""

        def orphans() -> list[psutil.Process]:
            return find_all(PROGRAM, self.folder.cluster)

        if wait_until(lambda: not orphans(), ORPHAN_SECONDS):
            return
        for process in orphans():
            process.kill()
        if not wait_until(lambda: not orphans(), ORPHAN_SECONDS):
            raise self.folder.error(
                "start PostgreSQL", "processes of a killed server are still running"
            )

    def _drop_stale_pid_file(self) -> None:
        """Remove a pid file that PostgreSQL would believe: its number is another program's now.

        Where no process has the number, PostgreSQL decides itself, and looks at more than the
        number.
        """
        pid = read_pid(self._pid_file)
        if pid is None or psutil.pid_exists(pid):
            self._pid_file.unlink(missing_ok=True)

    def _wait_ready(self, on_step: Callable[[str], None]) -> Postmaster:
        def settled() -> bool:
            server = self.running()
            return server is None or server.ready

        if not settled():
            on_step("PostgreSQL is recovering from a crash; this can take minutes")
        wait_until(settled, RECOVERY_SECONDS)
        server = self.running()
        if server is None or not server.ready:
            state = "it ended" if server is None else "it is still recovering; try again later"
            raise self.folder.error("start PostgreSQL", f"{state} (logs: {self.folder.logs})")
        return server

    def _create_database(self, url: str) -> None:
        import psycopg
        from psycopg import errors, sql

        try:
            with psycopg.connect(url, dbname="postgres", autocommit=True) as connection:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
        except errors.DuplicateDatabase:
            return
        except psycopg.Error as error:
            raise self.folder.error("open its database", str(error).strip()) from error
