"""Processes: who a server runs as, how it is started, recognised and stopped."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = 0
ACCOUNT = "embedfleet"
LARGEST_PID = 2**31
POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Account:
    """Who the servers run as. `switched`: another user than this process, which is root."""

    uid: int
    gid: int
    switched: bool

    def take(self, path: Path) -> None:
        """Give a file, or a folder and all that it holds, to this account if it is root's.

        Raises:
            OSError: it is a link, or a third user's.
        """
        found = path.lstat()
        if not self.switched or found.st_uid == self.uid:
            return
        if stat.S_ISLNK(found.st_mode) or found.st_uid != ROOT:
            raise OSError(f"{path} belongs to somebody else; remove it")
        for here, folders, files in os.walk(path):
            for name in (*folders, *files):
                os.chown(Path(here, name), self.uid, self.gid, follow_symlinks=False)
        # Last: an interrupted walk is repeated.
        os.chown(path, self.uid, self.gid, follow_symlinks=False)


def this_user() -> Account:
    return Account(os.geteuid(), os.getegid(), switched=False)


def server_account(data: Path) -> Account:
    """Who runs the servers: this user; for root, the owner of `data` or an account of their own.

    PostgreSQL refuses to run as root.
    """
    if os.geteuid() != ROOT:
        return this_user()
    if data.exists() and data.stat().st_uid != ROOT:
        return Account(data.stat().st_uid, data.stat().st_gid, switched=True)
    entry = _account_entry() or _add_account()
    return Account(entry.pw_uid, entry.pw_gid, switched=True)


def _account_entry() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(ACCOUNT)
    except KeyError:
        return None


def _add_account() -> pwd.struct_passwd:
    useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if useradd is None:
        raise OSError(
            f"PostgreSQL does not run as root, and there is no useradd to make the account "
            f"{ACCOUNT}; run this as an ordinary user"
        )
    added = subprocess.run(
        [useradd, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", ACCOUNT],
        capture_output=True,
        text=True,
        check=False,
    )
    # Another command may have been quicker: what counts is that the account is there.
    if (entry := _account_entry()) is None:
        raise OSError(f"the account {ACCOUNT} cannot be made: {added.stderr.strip()}")
    return entry


def run(
    command: Sequence[str | Path], account: Account, cwd: Path, text: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a server's program as the account, with `text` as its input.

    The environment is bare: the caller's PGPORT, PGOPTIONS or LC_ALL are not meant for this server.
    """
    switch: dict[str, Any] = {}
    if account.switched:
        switch = {"user": account.uid, "group": account.gid, "extra_groups": []}
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
        input=text,
        capture_output=True,
        text=True,
        umask=0o077,
        check=False,
        **switch,
    )


def read_pid(pid_file: Path) -> int | None:
    """The number on the first line; None where there is no file, or nothing usable in it."""
    try:
        pid = int(pid_file.read_text().partition("\n")[0])
    except (FileNotFoundError, ValueError):
        return None
    return pid if 0 < pid < LARGEST_PID else None


def find(pid: int | None, program: str, home: Path) -> psutil.Process | None:
    """The process, if it is alive, runs the program, and works in the folder `home`.

    A pid alone proves nothing: numbers are reused. The working folder also follows a rename.
    """
    if pid is None:
        return None
    try:
        process = psutil.Process(pid)
        return process if _is(process, program, home) else None
    except psutil.NoSuchProcess:
        return None


def find_all(program: str, home: Path) -> list[psutil.Process]:
    """Every living process that runs the program in the folder `home`."""
    return [process for process in psutil.process_iter() if _is(process, program, home)]


def _is(process: psutil.Process, program: str, home: Path) -> bool:
    try:
        return bool(
            process.name() == program
            and process.status() != psutil.STATUS_ZOMBIE
            and Path(process.cwd()).samefile(home)
        )
    except (psutil.NoSuchProcess, psutil.AccessDenied, FileNotFoundError):
        # Gone meanwhile, or another user's: not ours either way.
        return False


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll until the condition holds; False when it does not within the time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def stop(
    alive: Callable[[], psutil.Process | None],
    signals: Sequence[tuple[signal.Signals, float]],
) -> bool:
    """Send each signal in turn and give it its seconds; returns whether anything was running."""
    process = alive()
    if process is None:
        return False
    for number, seconds in signals:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
        if wait_until(lambda: alive() is None, seconds):
            return True
    raise OSError(f"process {process.pid} does not end")
