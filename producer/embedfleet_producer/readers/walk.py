"""Which files a list of paths stands for, and the key of each."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from embedfleet_producer.readers.folders import Entry, Selection, walk, walk_some
from embedfleet_producer.readers.object_store import ObjectUrl
from embedfleet_producer.readers.opening import open_regular
from embedfleet_producer.readers.rejections import printable
from embedfleet_producer.readers.roots import Root, Source, StandardInput
from embedfleet_schema.errors import InputMissing, WrongType
from embedfleet_schema.store.mirrors import Scope
from embedfleet_schema.types import Rejection
from embedfleet_schema.unicode_forms import composed, is_unicode, unicode_forms

STDIN = Path("-")


@dataclass(frozen=True, slots=True)
class File(Source):
    """It is `base` itself where there are no `parts`, else what they lead to below `base`."""

    base: Path
    parts: tuple[str, ...]

    def open(self) -> BufferedReader:
        return open_regular(self.base, self.parts)


@dataclass(frozen=True, slots=True)
class PathRoot(Root):
    """A file or a folder."""

    path: Path

    @property
    def is_folder(self) -> bool:
        """Like `Path.is_dir`, which raises where this says no (behind a folder that is locked)."""
        return os.path.isdir(self.path)  # noqa: PTH112

    def sources(self, selection: Selection, left_out: Counter[str]) -> Iterator[Source | Rejection]:
        if self.is_folder:
            for entry in self._entries(selection, left_out):
                yield self._judged(entry)
        elif selection.wants((self.path.name,), left_out):
            yield _file(Entry(self.path, (), ()), self.name)

    def _entries(self, selection: Selection, left_out: Counter[str]) -> Iterator[Entry]:
        return walk(self.path, selection, left_out)

    def _judged(self, entry: Entry) -> Source | Rejection:
        key = self.prefix + "/".join(entry.shown)
        if entry.verdict is not None:
            place = self.below + "/".join(entry.shown)
            return Rejection(printable(composed(key)), *entry.verdict, printable(place))
        return _file(entry, key)


@dataclass(frozen=True, slots=True)
class ChangedRoot(PathRoot):
    """A folder of which some paths are read: what is there of them, with the keys that it always
    has. All that is not there is gone.
    """

    changed: Sequence[tuple[str, ...]]

    must_have_files = False

    def _entries(self, selection: Selection, left_out: Counter[str]) -> Iterator[Entry]:
        return walk_some(self.path, self.changed, selection, left_out)

    def scope(self) -> Scope:
        paths = [printable(self.below + "/".join(parts)) for parts in self.changed]
        return Scope(self.origin, self.below, paths, [f"{path}/" for path in paths])


def resolve_roots(paths: Iterable[str | Path], selection: Selection) -> list[Root]:
    """Name the given paths so that no two of them share a key, and check that they can be used.

    Raises:
        InputMissing: a path does not exist, or is a folder without a file in it that is wanted.
        WrongType: one path was given, and not a list of them.
    """
    if isinstance(paths, str | bytes | Path):
        wanted, kind = 'a list of paths such as ["docs"]', type(paths).__name__
        raise WrongType(call="read_paths", name="paths", wanted=wanted, given=kind)
    given = list(dict.fromkeys(map(given_path, paths)))
    for path in given:
        if isinstance(path, Path):
            _check_exists(path)
    names = [_own_name(path) if isinstance(path, Path) else path.name for path in given]
    uses = Counter(map(composed, names))
    roots = []
    for path, own_name in zip(given, names, strict=True):
        as_given = path.as_posix() if isinstance(path, Path) else path.url
        name = own_name if uses[composed(own_name)] == 1 else as_given
        roots.append(_root(path, name, f"{name}/" if name and len(given) > 1 else ""))
    for root in roots:
        _check_files(root, selection)
    return roots


def given_path(path: str | Path) -> Path | ObjectUrl:
    """A path as the caller gave it; of a store of objects, its URL.

    Raises:
        UsageError: it is the URL of something else, or of something that it must not hold.
    """
    url = None if isinstance(path, Path) else ObjectUrl.of(path)
    return url or Path(path)


def absolute(path: Path) -> str:
    """Not resolved: a link is the name by which the file was given."""
    return printable(os.path.abspath(path))  # noqa: PTH100


def _root(path: Path | ObjectUrl, name: str, prefix: str) -> Root:
    if not isinstance(path, Path):
        return path.root(name, prefix)
    if path == STDIN:
        return StandardInput(name, prefix, name)
    return PathRoot(name, prefix, absolute(path), path)


def _check_files(root: Root, selection: Selection) -> None:
    if isinstance(root, StandardInput):
        return
    passed: Counter[str] = Counter()
    if next(root.sources(selection, passed), None) is None:
        del passed["hidden"]
        reason = "no file in it matches" if passed else "the folder is empty"
        given = root.path if isinstance(root, PathRoot) else root.origin
        raise InputMissing(path=given, reason=reason)


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


def _file(entry: Entry, name: str) -> Source | Rejection:
    place = absolute(entry.base.joinpath(*entry.parts))
    if not is_unicode(name):
        reason = "the file's name is not valid UTF-8: rename it"
        return Rejection(printable(name), "BAD_NAME", reason, place)
    key = composed(name)
    former = (each for each in unicode_forms(name) if each != key)
    return File(key, next(former, None), place, entry.base, entry.parts)
