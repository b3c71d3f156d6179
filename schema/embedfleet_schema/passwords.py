"""Passwords that are asked for when a connection is opened: a token of an IAM lives for minutes.

What gives the password travels with the URL, so that whoever is handed the one has the other.
"""

from __future__ import annotations

import shlex
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from embedfleet_schema.forks import renewed_after_fork

# Far below the life of a token (RDS: 15 minutes), and a worker that starts asks once instead of a
# dozen times. A password that is refused is asked for anew at once.
KEPT_S = 60.0
# A command line tool of a cloud may have to fetch credentials first.
COMMAND_S = 30.0
# An access token of Azure has some thousand letters.
MOST_BYTES = 65_536


class NoPassword(Exception):
    """Why there is no password. It quotes nothing that may be one."""


class Passwords:
    """Gives the password of a new connection. Threads share it; a forked child does as well.

    Args:
        ask: gives the password that counts now.
        kept_s: how long one counts without asking again.
    """

    def __init__(self, ask: Callable[[], str], *, kept_s: float = 0.0) -> None:
        self._ask = ask
        self._kept_s = kept_s
        self._kept: tuple[str, float] | None = None
        self._lock = threading.Lock()
        renewed_after_fork(self, "_renew")

    def current(self, *, refused: str | None = None) -> str:
        """The password, asked for where the last one is too old, or is the one that was refused.

        Raises:
            NoPassword: nobody gave one.
        """
        with self._lock:
            kept, until = self._kept or ("", 0.0)
            if kept in ("", refused) or time.monotonic() >= until:
                kept = _checked(self._ask)
                self._kept = kept, time.monotonic() + self._kept_s
            return kept

    def _renew(self) -> None:
        self._lock = threading.Lock()


class DatabaseUrl(str):
    """All that libpq takes, with what gives the password where the URL alone does not."""

    __slots__ = ("passwords",)

    passwords: Passwords | None

    def __new__(cls, url: str, passwords: Passwords | None = None) -> DatabaseUrl:
        made = super().__new__(cls, url)
        made.passwords = passwords
        return made

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        """What another process gets: its own settings say what gives the password there."""
        return str, (str(self),)


def passwords_of(url: str) -> Passwords | None:
    """What gives the passwords for a URL; None where it has its own, or needs none."""
    return url.passwords if isinstance(url, DatabaseUrl) else None


def of_function(ask: Callable[[], str]) -> Passwords:
    """Those of a function, which is called for each connection: it may keep them itself."""
    return Passwords(ask)


def of_command(command: str) -> Passwords:
    """Those that a command prints, whose words are split as a shell does. No shell runs it."""
    words = shlex.split(command)
    return Passwords(lambda: _printed(words), kept_s=KEPT_S)


def _checked(ask: Callable[[], str]) -> str:
    try:
        found = ask()
    except NoPassword:
        raise
    except Exception as error:
        raise NoPassword(f"the function for the password raised {type(error).__name__}") from error
    if not isinstance(found, str) or not found or "\0" in found:
        raise NoPassword("what gives the password gave none")
    return found


def _printed(words: list[str]) -> str:
    # Its first word only: the others may hold a secret.
    name = f"the password command ({Path(words[0]).name})"
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=COMMAND_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NoPassword(f"{name} did not end within {COMMAND_S:.0f} s") from None
    except (OSError, ValueError) as error:
        raise NoPassword(f"{name} cannot be run ({type(error).__name__})") from None
    if done.returncode:
        raise NoPassword(
            f"{name} ended with exit status {done.returncode}; run it by hand to see why"
        )
    if len(done.stdout) > MOST_BYTES:
        raise NoPassword(f"{name} printed more than a password")
    try:
        return done.stdout.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise NoPassword(f"{name} printed what is no text") from None
