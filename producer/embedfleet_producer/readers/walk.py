"""Which files a list of paths stands for, and the key of each."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from embedfleet_producer.readers.folders import Entry, Selection, walk
from embedfleet_producer.readers.rejections import printable
from embedfleet_schema.errors import InputMissing, WrongType
from embedfleet_schema.types import Rejection
from embedfleet_schema.unicode_forms import composed, is_unicode, unicode_forms

STDIN = Path("-")


@dataclass(frozen=True, slots=True)
class Source:
    """A file to be read, and the key that it gives its document.

    It is `base` itself where there are no `parts`, else what they lead to below `base`.
    `former_key` is the key in another Unicode form: collections from before may hold that one.
    """

    base: Path
    parts: tuple[str, ...]
    key: str
    former_key: str | None

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    @property
    def origin(self) -> str:
        """Its absolute path. Not resolved: a link is the name by which the file was given."""
        return printable(os.path.abspath(self.base.joinpath(*self.parts)))  # noqa: PTH100


@dataclass(frozen=True, slots=True)
class Root:
    """A path as the caller gave it; `prefix` is what it adds to the keys below it."""

    path: Path
    name: str
    prefix: str

    @property
    def is_folder(self) -> bool:
        """Like `Path.is_dir`, which raises where this says no (behind a folder that is locked)."""
        return os.path.isdir(self.path)  # noqa: PTH112

    def sources(self, selection: Selection, left_out: Counter[str]) -> Iterator[Source | Rejection]:
        """Files below a folder, depth first and sorted; or the one file that the root is."""
        if self.is_folder:
            for entry in walk(self.path, selection, left_out):
                yield self._judged(entry)
        elif selection.wants((self.path.name,), left_out):
            yield _source(Entry(self.path, (), ()), self.name)

    def _judged(self, entry: Entry) -> Source | Rejection:
        key = self.prefix + "/".join(entry.shown)
        if entry.verdict is not None:
            return Rejection(printable(composed(key)), *entry.verdict)
        return _source(entry, key)


def resolve_roots(paths: Iterable[str | Path], selection: Selection) -> list[Root]:
    """Name the given paths so that no two of them share a key, and check that they can be used.

    Raises:
        InputMissing: a path does not exist, or is a folder without a file in it that is wanted.
        WrongType: one path was given, and not a list of them.
    """
    if isinstance(paths, str | bytes | Path):
        wanted, kind = 'a list of paths such as ["docs"]', type(paths).__name__
        raise WrongType(call="read_paths", name="paths", wanted=wanted, given=kind)
    given = list(dict.fromkeys(Path(path) for path in paths))
    for path in given:
        _check_exists(path)
    names = [_own_name(path) for path in given]
    uses = Counter(map(composed, names))
    roots = []
    for path, own_name in zip(given, names, strict=True):
        name = own_name if uses[composed(own_name)] == 1 else path.as_posix()
        roots.append(Root(path, name, f"{name}/" if name and len(given) > 1 else ""))
    for root in roots:
        passed: Counter[str] = Counter()
        if next(root.sources(selection, passed), None) is None:
            del passed["hidden"]
            reason = "no file in it matches" if passed else "the folder is empty"
            raise InputMissing(path=printable(root.path), reason=reason)
    return roots


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


def _source(entry: Entry, name: str) -> Source | Rejection:
    if not is_unicode(name):
        return Rejection(
            printable(name), "BAD_NAME", "the file's name is not valid UTF-8: rename it"
        )
    key = composed(name)
    former = (each for each in unicode_forms(name) if each != key)
    return Source(entry.base, entry.parts, key, next(former, None))
