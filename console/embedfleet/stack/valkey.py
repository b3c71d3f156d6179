"""Valkey: start, recognise, stop. It keeps nothing on disk: its messages are only doorbells."""

from __future__ import annotations

import secrets
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from embedfleet.stack import ports
from embedfleet.stack.files import Folder, last_words, one_line
from embedfleet.stack.processes import (
    Account,
    find,
    find_all,
    read_pid,
    run,
    stop,
    wait_until,
)
from embedfleet.stack.wheels import valkey_program

PROGRAM = "valkey-server"
LOG_BYTES = 1_000_000
ANSWER_SECONDS = 5.0
# It takes a tenth of a second; a machine that is short of everything takes its time.
START_SECONDS = 60.0
STOP = ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))
# Relative paths need no quoting; the server starts in its own folder.
CONFIGURATION = """\
bind {host}
port {port}
requirepass {password}
daemonize yes
dir .
pidfile valkey.pid
logfile ../{log}
loglevel warning
save ""
appendonly no
maxmemory 256mb
maxmemory-policy noeviction
"""


@dataclass(frozen=True, slots=True)
class Valkey:
    """The Valkey server of one data folder."""

    folder: Folder

    def process(self) -> psutil.Process | None:
        return find(read_pid(self._pid_file), PROGRAM, self.folder.valkey)

    def running(self, url: str) -> bool:
        """Whether our server runs and answers at this URL."""
        return self.process() is not None and _answers(url)

    def ensure(self, account: Account, last_url: str, on_step: Callable[[str], None]) -> str:
        """Start the server unless it runs. Returns its URL, the last one if that is possible.

        Raises StackError.
        """
        if self.running(last_url):
            return last_url
        self.stop()  # one that hangs, or whose password is lost
        on_step("starting Valkey")
        self._shorten_log()
        password = urlsplit(last_url).password or secrets.token_urlsafe(24)
        began = time.time()
        for port in ports.candidates(ports.port_of(last_url)):
            url = f"redis://:{password}@{ports.LOOPBACK}:{port}/0"
            self._launch(account, port, password)
            if self._wait_ready(url):
                return url
            self.stop()
            if ports.is_free(port):
                break  # the port was not the reason
        reason = last_words([self._log], began) or f"no answer within {START_SECONDS:.0f} s"
        raise self.folder.error("start Valkey", f"{reason} (log: {self._log})")

    def stop(self) -> bool:
        return stop(self._remaining, STOP)

    def _remaining(self) -> psutil.Process | None:
        """Our server, also one that has not written its number yet, or whose file is lost."""
        found = self.process()
        return found or next(iter(find_all(PROGRAM, self.folder.valkey)), None)

    @property
    def _pid_file(self) -> Path:
        return self.folder.valkey / "valkey.pid"

    @property
    def _log(self) -> Path:
        return self.folder.logs / "valkey.log"

    def _launch(self, account: Account, port: int, password: str) -> None:
        """Start the server, which detaches itself. The password goes through its input only."""
        self._pid_file.unlink(missing_ok=True)
        log = self._log.relative_to(self.folder.root)
        configuration = CONFIGURATION.format(
            host=ports.LOOPBACK, port=port, password=password, log=log
        )
        started = run([valkey_program(), "-"], account, self.folder.valkey, configuration)
        if started.returncode != 0:
            said = one_line(started.stderr or started.stdout)
            raise self.folder.error("start Valkey", said or f"exit code {started.returncode}")

    def _wait_ready(self, url: str) -> bool:
        def settled() -> bool:
            # The file is there before the number is in it.
            ended = read_pid(self._pid_file) is not None and self.process() is None
            return ended or self.running(url)

        return wait_until(settled, START_SECONDS) and self.running(url)

    def _shorten_log(self) -> None:
        if self._log.exists() and self._log.stat().st_size > LOG_BYTES:
            self._log.replace(self._log.with_suffix(".log.old"))


def _answers(url: str) -> bool:
    """Whether the server at the URL takes its password and answers a ping."""
    parts = urlsplit(url)
    try:
        with (
            socket.create_connection((parts.hostname, parts.port or 0), ANSWER_SECONDS) as server,
            server.makefile("rwb") as lines,
        ):
            lines.write(f"AUTH {parts.password}\r\nPING\r\n".encode())
            lines.flush()
            return [lines.readline(), lines.readline()] == [b"+OK\r\n", b"+PONG\r\n"]
    except OSError:
        # Refused, hung up or too slow: it does not answer.
        return False
