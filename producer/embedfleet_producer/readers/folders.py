"""The files below a folder, in an order that stays, without leaving it through a link."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from embedfleet_producer.readers.opening import open_folder
from embedfleet_producer.readers.patterns import Patterns
from embedfleet_producer.readers.rejections import FileRejected, os_reason, printable
from embedfleet_schema.unicode_forms import composed

HIDDEN, EXCLUDED, NOT_INCLUDED, LINK = "hidden", "excluded", "not included", "link"


@dataclass(frozen=True, slots=True)
class Selection:
    """What is wanted of the folders: files that match `include`, if it says anything, and not
    `exclude`; links only where `follow_links`.
    """

    include: Patterns = field(default_factory=Patterns)
    exclude: Patterns = field(default_factory=Patterns)
    follow_links: bool = False

    def wants(self, parts: Sequence[str], left_out: Counter[str]) -> bool:
        """Whether to read a file; counts it if not."""
        if self.exclude.match(parts, is_folder=False):
            left_out[EXCLUDED] += 1
        elif self.include and not self.include.match_any(parts):
            left_out[NOT_INCLUDED] += 1
        else:
            return True
        return False

    def covers(self, parts: Sequence[str]) -> bool:
        """Whether a walk comes by this path itself, and takes it."""
        return (
            not any(part.startswith(".") for part in parts)
            and not self.exclude.match_any(parts)
            and (not self.include or self.include.match_any(parts))
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """Something below a folder: a file to open by `base` and `parts`, or a verdict on it.

    `shown` is its path as keys have it, which differs from `parts` behind a followed link.
    """

    base: Path
    parts: tuple[str, ...]
    shown: tuple[str, ...]
    verdict: tuple[str, str] | None = None


def walk(root: Path, selection: Selection, left_out: Counter[str]) -> Iterator[Entry]:
    """Every wanted file below a folder, depth first and sorted; what is followed comes last."""
    return _Walk(root, selection, left_out).entries()


def walk_some(
    root: Path,
    paths: Sequence[tuple[str, ...]],
    selection: Selection,
    left_out: Counter[str],
) -> Iterator[Entry]:
    """What a walk would find at some paths below a folder, and below these."""
    return _Walk(root, selection, left_out).entries(paths)


@dataclass(slots=True)
class _Found:
    name: str
    is_folder: bool
    is_link: bool


class _Walk:
    """A stack and not recursion: the file system alone bounds the depth."""

    def __init__(self, root: Path, selection: Selection, left_out: Counter[str]) -> None:
        self._root = root
        self._real_root = Path(os.path.realpath(root))
        self._selection = selection
        self._left_out = left_out
        self._followed: list[Entry] = []
        # Device and number of each folder that was reached through a link: a loop ends there.
        self._seen = {_number(os.stat(root))}  # noqa: PTH116 - as of a descriptor, below

    def entries(self, paths: Sequence[tuple[str, ...]] = ((),)) -> Iterator[Entry]:
        for parts in paths:
            yield from self._at(parts)
        while self._followed:
            entry = self._followed.pop(0)
            if os.path.isdir(entry.base):  # noqa: PTH112 - a folder that is locked is none
                yield from self._below(entry)
            else:
                yield entry

    def _at(self, parts: tuple[str, ...]) -> Iterator[Entry]:
        entry = Entry(self._root, parts, parts)
        above = (parts[:depth] for depth in range(1, len(parts)))
        if any(part.startswith(".") for part in parts) or any(
            self._selection.exclude.match(folder, is_folder=True) for folder in above
        ):
            return
        path = self._root.joinpath(*parts)
        if not parts:
            yield from self._below(entry)
        elif path.is_symlink():
            judged = self._link(entry) if self._selection.wants(parts, self._left_out) else None
            if judged is not None:
                yield judged
        elif os.path.isdir(path):  # noqa: PTH112 - a folder that is locked is none
            if not self._selection.exclude.match(parts, is_folder=True):
                yield from self._below(entry)
        elif os.path.lexists(path) and self._selection.wants(parts, self._left_out):
            yield entry

    def _below(self, top: Entry) -> Iterator[Entry]:
        pending = [(top, True)]
        while pending:
            entry, is_folder = pending.pop()
            if not is_folder:
                yield entry
                continue
            try:
                pending.extend(reversed(list(self._inside(entry))))
            except FileRejected as refused:
                yield Entry(entry.base, entry.parts, entry.shown, (refused.code, refused.reason))
            except OSError as error:
                yield Entry(entry.base, entry.parts, entry.shown, ("UNREADABLE", os_reason(error)))

    def _inside(self, folder: Entry) -> Iterator[tuple[Entry, bool]]:
        names: set[str] = set()
        for found in self._listed(folder):
            entry = Entry(folder.base, (*folder.parts, found.name), (*folder.shown, found.name))
            if found.name.startswith("."):
                self._left_out[HIDDEN] += 1
            elif found.is_folder:
                if self._selection.exclude.match(entry.shown, is_folder=True):
                    self._left_out[EXCLUDED] += 1
                else:
                    yield entry, True
            elif self._selection.wants(entry.shown, self._left_out):
                judged = self._link(entry) if found.is_link else _once(entry, names)
                if judged is not None:
                    yield judged, False

    def _listed(self, folder: Entry) -> list[_Found]:
        descriptor = open_folder(folder.base, folder.parts)
        try:
            if folder.base != self._root and not self._is_new(descriptor):
                return []
            with os.scandir(descriptor) as entries:
                found = [
                    _Found(entry.name, entry.is_dir(follow_symlinks=False), entry.is_symlink())
                    for entry in entries
                ]
        finally:
            os.close(descriptor)
        return sorted(found, key=lambda each: each.name)

    def _is_new(self, descriptor: int) -> bool:
        number = _number(os.fstat(descriptor))
        is_new = number not in self._seen
        self._seen.add(number)
        if not is_new:
            self._left_out[LINK] += 1
        return is_new

    def _link(self, entry: Entry) -> Entry | None:
        """A link to what is read under its own name is passed over; another is told or followed."""
        path = entry.base.joinpath(*entry.parts)
        try:
            target = Path(os.path.realpath(path, strict=True))
        except OSError as error:
            return Entry(entry.base, entry.parts, entry.shown, ("UNREADABLE", os_reason(error)))
        is_inside = target.is_relative_to(self._real_root)
        if is_inside and self._selection.covers(target.relative_to(self._real_root).parts):
            self._left_out[LINK] += 1
            return None
        if self._selection.follow_links:
            self._followed.append(Entry(target, (), entry.shown))
            return None
        where = "to what is hidden or left out" if is_inside else "out of the folder"
        reason = f"a link {where}, to {printable(target)}; --follow-links follows it"
        return Entry(entry.base, entry.parts, entry.shown, ("LINK_NOT_FOLLOWED", reason))


def _number(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _once(entry: Entry, names: set[str]) -> Entry:
    """The entry; the second of two names that differ in their Unicode form alone is turned down."""
    name = composed(entry.shown[-1])
    if name not in names:
        names.add(name)
        return entry
    reason = "another file here has the same name in another Unicode form; rename one of them"
    return Entry(entry.base, entry.parts, entry.shown, ("DUPLICATE_KEY", reason))
