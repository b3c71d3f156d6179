"""Which files a list of paths stands for, and the key of each."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BufferedReader, FileIO
from pathlib import Path

from embedfleet_producer.readers.refusals import Refused, is_unicode, os_reason, printable
from embedfleet_schema.errors import InputMissing
from embedfleet_schema.types import Rejection

STDIN = Path("-")
# Not the block size of the file system, which may be less than what is sniffed.
_BUFFER_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Source:
    """A file to be read, and the key that it gives its document."""

    path: Path
    key: str

    @property
    def extension(self) -> str:
        return self.path.suffix.lower()


@dataclass(frozen=True, slots=True)
class Root:
    """A path as the caller gave it; `prefix` is what it adds to the keys below it."""

    path: Path
    name: str
    prefix: str

    def sources(self) -> Iterator[Source | Rejection]:
        """Files below a folder, depth first and sorted; or the one file that the root is."""
        if not _is_folder(self.path):
            yield _source(self.path, self.name)
            return
        for path, trouble in _walk(self.path):
            key = self.prefix + path.relative_to(self.path).as_posix()
            if trouble is None:
                yield _source(path, key)
            else:
                yield Rejection(printable(key), "UNREADABLE", os_reason(trouble))


def plan_roots(paths: Iterable[str | Path]) -> list[Root]:
    """Name the given paths so that no two of them share a key, and check that they can be used.

    Raises:
        InputMissing: a path does not exist, or is a folder without a file in it.
    """
    given = list(dict.fromkeys(Path(path) for path in paths))
    for path in given:
        _check_exists(path)
    names = [_own_name(path) for path in given]
    uses = Counter(names)
    roots = []
    for path, own_name in zip(given, names, strict=True):
        name = own_name if uses[own_name] == 1 else path.as_posix()
        roots.append(Root(path, name, f"{name}/" if name and len(given) > 1 else ""))
    for root in roots:
        if next(root.sources(), None) is None:
            raise InputMissing(path=printable(root.path), reason="the folder is empty")
    return roots


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading; anything else is refused without being opened.

    The second look, at what was opened, is for a file that is swapped for a pipe in between:
    without O_NONBLOCK opening a pipe would wait for a writer.
    """
    check_regular(path.stat())
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        check_regular(os.fstat(descriptor))
    except Refused:
        os.close(descriptor)
        raise
    stream: BufferedReader = BufferedReader(FileIO(descriptor), _BUFFER_BYTES)
    return stream


def check_regular(found: os.stat_result) -> None:
    """Raise Refused (NOT_A_FILE) for what may block, or act, when it is opened."""
    if not stat.S_ISREG(found.st_mode):
        raise Refused(
            "NOT_A_FILE",
            "pipes, sockets and devices are not opened; to read from a pipe, send it to standard "
            "input and name it -",
        )


def _check_exists(path: Path) -> None:
    if path == STDIN:
        return
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise InputMissing(path=printable(path), reason="no such file or folder") from error
    except OSError:
        # It may well exist: reading it gives a verdict of its own and leaves the others alone.
        return


def _own_name(path: Path) -> str:
    """The last part of a path; for `.` and `..` that of the folder they stand for."""
    if path == STDIN:
        return "stdin"
    return path.name if path.name not in {"", ".."} else path.resolve().name


def _source(path: Path, key: str) -> Source | Rejection:
    if is_unicode(key):
        return Source(path, key)
    return Rejection(printable(key), "BAD_NAME", "the file's name is not valid UTF-8: rename it")


def _walk(root: Path) -> Iterator[tuple[Path, OSError | None]]:
    """Every file below a folder, and every folder that cannot be listed with what was wrong.

    A stack and not recursion: the file system alone bounds the depth.
    """
    pending = [(root, True)]
    while pending:
        path, is_folder = pending.pop()
        if not is_folder:
            yield path, None
            continue
        try:
            pending.extend(reversed(_visible_entries(path)))
        except OSError as error:
            yield path, error


def _visible_entries(folder: Path) -> list[tuple[Path, bool]]:
    """What a folder holds, sorted, and whether each is a folder; links to folders are left out."""
    with os.scandir(folder) as entries:
        return sorted(
            (folder / entry.name, entry.is_dir(follow_symlinks=False))
            for entry in entries
            if not entry.name.startswith(".")
            and not (entry.is_symlink() and _is_folder(Path(entry.path)))
        )


def _is_folder(path: Path) -> bool:
    """Like `Path.is_dir`, which raises where this says no (a folder that may not be searched)."""
    return os.path.isdir(path)  # noqa: PTH112
