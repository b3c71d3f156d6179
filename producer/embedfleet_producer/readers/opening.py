"""Files opened so that what is read is what was judged, whatever is swapped in between."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from io import BufferedReader, FileIO
from pathlib import Path

from embedfleet_producer.readers.rejections import FileRejected

# Not the block size of the file system, which may be less than what is sniffed.
_BUFFER_BYTES = 65_536
_FOLDER = os.O_RDONLY | os.O_DIRECTORY
# Without O_NONBLOCK opening a pipe would wait for a writer.
_FILE = os.O_RDONLY | os.O_NONBLOCK


def open_regular(base: Path, parts: Sequence[str] = ()) -> BufferedReader:
    """Open a regular file for reading; anything else is refused.

    Args:
        base: the file itself, which may be a link; or the folder that `parts` go down from.
        parts: names, none of which may be a link.
    """
    descriptor = _descend(base, parts, _FILE) if parts else _open_named(base)
    try:
        check_regular(os.fstat(descriptor))
    except FileRejected:
        os.close(descriptor)
        raise
    stream: BufferedReader = BufferedReader(FileIO(descriptor), _BUFFER_BYTES)
    return stream


def open_folder(base: Path, parts: Sequence[str]) -> int:
    """A descriptor of a folder, for `os.scandir`; the caller closes it."""
    return _descend(base, parts, _FOLDER)


def check_regular(found: os.stat_result) -> None:
    """Raise FileRejected (NOT_A_FILE) for what may block, or act, when it is opened."""
    if not stat.S_ISREG(found.st_mode):
        raise FileRejected(
            "NOT_A_FILE",
            "pipes, sockets and devices are not opened; to read from a pipe, send it to standard "
            "input and name it -",
        )


def _open_named(path: Path) -> int:
    # Opening a device can act on it: it is looked at before, and once more when it is open.
    check_regular(path.stat())
    return os.open(path, _FILE)


def _descend(base: Path, parts: Sequence[str], flags: int) -> int:
    """Open step by step: a path as a whole would follow a link that was put in its middle."""
    folder = os.open(base, _FOLDER)
    try:
        for part in parts[:-1]:
            below = _open_entry(part, _FOLDER, folder)
            os.close(folder)
            folder = below
        return _open_entry(parts[-1], flags, folder) if parts else os.dup(folder)
    finally:
        os.close(folder)


def _open_entry(name: str, flags: int, folder: int) -> int:
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if stat.S_ISLNK(found.st_mode):
        raise FileRejected("LINK_NOT_FOLLOWED", "it became a link while the folder was read")
    if not flags & os.O_DIRECTORY:
        check_regular(found)
    try:
        return os.open(name, flags | os.O_NOFOLLOW, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            reason = "it was replaced while the folder was read"
            raise FileRejected("LINK_NOT_FOLLOWED", reason) from error
        raise
