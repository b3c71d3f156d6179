"""The data folder: what lies where, who may read it, and where the servers listen."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from embedfleet.stack.processes import ROOT, Account
from embedfleet_schema.errors import StackError
from embedfleet_schema.logs import message_of
from embedfleet_schema.private_files import write_private
from embedfleet_schema.stack_file import STACK_FILE


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the two servers listen; the URLs hold passwords."""

    database_url: str
    redis_url: str


@dataclass(frozen=True, slots=True)
class Folder:
    """The layout of a data folder."""

    root: Path

    @property
    def postgres(self) -> Path:
        return self.root / "postgres"

    @property
    def cluster(self) -> Path:
        """What PostgreSQL calls its data directory."""
        return self.postgres / "data"

    @property
    def valkey(self) -> Path:
        return self.root / "valkey"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def lock_file(self) -> Path:
        return self.root / ".lock"

    @property
    def stack_file(self) -> Path:
        return self.root / STACK_FILE

    @property
    def workers(self) -> Path:
        """Where local workers have their working folders."""
        return self.root / "workers"

    def check(self) -> None:
        """Refuse a folder that others may lead astray; changes nothing.

        Raises:
            StackError: something in it is a symbolic link, or root was given another user's folder.
        """
        if not self.root.exists():
            return
        owner = self.root.stat().st_uid
        if os.geteuid() == ROOT != owner:
            reason = f"it belongs to user {owner}; run this as that user, or choose another folder"
            raise self.error("be used by root", reason)
        named = (self.postgres, self.cluster, self.valkey, self.logs, self.workers)
        for path in (*named, self.lock_file, self.stack_file):
            if path.is_symlink():
                reason = f"{path} is a symbolic link, which is not followed; remove it"
                raise self.error("be used", f"{reason}, or choose the folder itself with --data")

    def prepare(self, account: Account) -> None:
        """Make the folders, private to the account that the servers run as."""
        for folder in (self.logs, self.valkey):
            folder.mkdir(mode=0o700, exist_ok=True)
            account.take(folder)

    def error(self, action: str, reason: str) -> StackError:
        return StackError(data=self.root, action=action, reason=reason)

    def read_endpoints(self) -> Endpoints | None:
        """Where the servers listened last; None where no usable file says so."""
        try:
            found = json.loads(self.stack_file.read_text())
            return Endpoints(str(found["database_url"]), str(found["redis_url"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            # Lost or damaged: `up` finds everything that it needs elsewhere and writes it anew.
            return None

    def write_endpoints(self, endpoints: Endpoints) -> None:
        write_private(self.stack_file, json.dumps(asdict(endpoints), indent=2) + "\n")


def appending(path: Path) -> BinaryIO:
    """A log to write to. Its folder may be another account's, so that no link is followed."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    return os.fdopen(os.open(path, flags, 0o600), "ab")


def last_words(logs: Iterable[Path], since: float, lines: int = 3) -> str:
    """The last lines of the logs written to after `since` (seconds since the epoch)."""
    # A file system's clock lags a little behind.
    plain = [log for log in logs if log.is_file() and not log.is_symlink()]
    written = [log for log in plain if log.stat().st_mtime >= since - 1]
    said: deque[str] = deque(maxlen=lines)
    for log in sorted(written, key=lambda log: log.stat().st_mtime):
        with log.open(errors="replace") as file:
            said.extend(line for line in file if line.strip())
    return one_line("\n".join(map(message_of, said)))


def one_line(text: str) -> str:
    return " / ".join(line.strip() for line in text.splitlines() if line.strip())
