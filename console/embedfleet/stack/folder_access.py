"""Ways for the servers' account through root's own folders, open for as long as the servers run.

PostgreSQL does not run as root. Where root starts it, the account that it runs as has to reach the
data and the programs, and root's folders are often closed to everyone else.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from embedfleet.stack.files import Folder
from embedfleet.stack.processes import ROOT, Account
from embedfleet_schema.private_files import write_private


@contextmanager
def held_open(
    folder: Folder, account: Account, paths: Iterable[Path], on_step: Callable[[str], None]
) -> Iterator[None]:
    """Let the account reach `paths`; while the block runs, nobody who closes ways closes these.

    Only the right to pass is given, not the right to list. What the mode was is written down
    first, for `close`.

    Raises:
        OSError: a folder in the way is closed and belongs to somebody else.
    """
    if not account.switched:
        yield
        return
    with ExitStack() as held:
        for parent in dict.fromkeys(parent for path in paths for parent in path.parents):
            # Before the look at its mode: a stack that stops may be about to close it.
            held.enter_context(_locked(parent))
            if not parent.stat().st_mode & stat.S_IXOTH:
                _open(folder, parent)
                on_step(
                    f"letting other users pass through {parent} (without listing it) until `down`"
                )
        yield


def close(folder: Folder, account: Account) -> None:
    """Give the folders that were opened their modes back, unless the account still needs them."""
    opened = _read(folder)
    if not opened or _is_at_work(account):
        return
    left = {name: mode for name, mode in opened.items() if not _closed(Path(name), mode)}
    if left:
        write_private(_record(folder), json.dumps(left))
    else:
        _record(folder).unlink()


def _open(folder: Folder, parent: Path) -> None:
    found = parent.stat()
    if found.st_uid != ROOT:
        raise OSError(
            f"the servers cannot pass through {parent}, which belongs to another user; "
            f"allow it with: chmod o+x {parent}, or choose another folder with --data"
        )
    mode = stat.S_IMODE(found.st_mode)
    write_private(_record(folder), json.dumps({str(parent): mode, **_read(folder)}))
    parent.chmod(mode | stat.S_IXOTH)


def _closed(parent: Path, mode: int) -> bool:
    """Give a folder its mode back unless somebody changed it; False where a start needs it now."""
    try:
        with _locked(parent, fcntl.LOCK_EX | fcntl.LOCK_NB):
            if stat.S_IMODE(parent.stat().st_mode) == mode | stat.S_IXOTH:
                parent.chmod(mode)
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    return True


@contextmanager
def _locked(parent: Path, how: int = fcntl.LOCK_SH) -> Iterator[None]:
    descriptor = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)


def _is_at_work(account: Account) -> bool:
    """Whether any server still runs as the account, of this folder or another."""
    uids = (process.info["uids"] for process in psutil.process_iter(["uids"]))
    return any(found is not None and found.real == account.uid for found in uids)


def _record(folder: Folder) -> Path:
    return folder.root / "passages.json"


def _read(folder: Folder) -> dict[str, int]:
    """What was opened, with the modes from before."""
    try:
        found: dict[str, int] = json.loads(_record(folder).read_text())
    except FileNotFoundError:
        return {}
    return found
