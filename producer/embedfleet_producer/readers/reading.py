"""One reading of files, folders, objects and standard input: documents and verdicts, lazily."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import BinaryIO, Self

from embedfleet_producer.readers.changes import Changed
from embedfleet_producer.readers.confined import ConfinedReader
from embedfleet_producer.readers.folders import Selection
from embedfleet_producer.readers.formats import ROW_READERS, Format, guarded, read_open
from embedfleet_producer.readers.limits import ReaderLimits
from embedfleet_producer.readers.object_store import ObjectRoot
from embedfleet_producer.readers.options import ReadOptions
from embedfleet_producer.readers.rejections import FileRejected, Note, Verdict
from embedfleet_producer.readers.report import ReadReport
from embedfleet_producer.readers.roots import Root, Source, StandardInput
from embedfleet_producer.readers.rows import Rows
from embedfleet_producer.readers.standard_input import read_stdin
from embedfleet_producer.readers.unknown import UNKNOWN_TYPE, UnknownFiles
from embedfleet_producer.readers.unpacking import on_disk, unpacked
from embedfleet_producer.readers.walk import ChangedRoot, PathRoot
from embedfleet_producer.scopes import Part
from embedfleet_producer.source import Known
from embedfleet_schema.store.incoming import ObjectRead
from embedfleet_schema.types import Document, Rejection

Item = Verdict | ObjectRead

# Objects of which it is asked at once, and documents of one that are told at once.
_ASKED_AT_ONCE = 1_000
_KEYS_AT_ONCE = 1_000


class Reading(Iterator[Document | Rejection]):
    """One call of `read_paths`. Once it is asked, it tells which sources it has read to the end."""

    def __init__(
        self,
        selection: Selection,
        max_bytes: int,
        limits: ReaderLimits,
        options: ReadOptions,
        report: ReadReport,
        rows: type[Rows] = Rows,
    ) -> None:
        self._selection = selection
        self._max_bytes = max_bytes
        self._limits = limits
        self._options = options
        self._report = report
        self._rows = rows
        self._ended: list[str] | None = None
        self._known: Known | None = None
        self._unreadable: str | None = None
        self._doubtful: str | None = None
        self._rejected: set[str] = set()
        # The file whose content a parser has in hand.
        self._parsed: str | None = None

    @property
    def folders(self) -> list[str] | None:
        """The folders that it reads, as absolute paths; None where it reads something else."""
        roots = [r for r in self._roots if isinstance(r, PathRoot) and r.is_folder]
        return [root.origin for root in roots] if len(roots) == len(self._roots) else None

    def of(self, roots: Sequence[Root], stdin: BinaryIO | None) -> Self:
        self._roots = roots
        self._documents = self._all(roots, stdin)
        return self

    def only(self, changed: Changed) -> Self:
        """Read some paths of the folders alone, with the keys that they have as a part of them."""
        roots = [
            ChangedRoot(root.name, root.prefix, root.origin, root.path, changed[root.origin])
            for root in self._roots
            if isinstance(root, PathRoot) and root.origin in changed
        ]
        return self.of(roots, None)

    def __next__(self) -> Document | Rejection:
        return next(self._documents)

    def close(self) -> None:
        """Read no more."""
        self._documents.close()

    def take_ended(self) -> list[str]:
        """The sources that were read to their end since this was asked last, or first."""
        ended, self._ended = self._ended or [], []
        return ended

    def ask(self, known: Known) -> None:
        """From now on objects that are known are not read; what is read of others is told. Both
        come as an `ObjectRead` among the documents.
        """
        self._known = known

    @property
    def named(self) -> str | None:
        """The source of all documents, if it was named."""
        return self._options.source

    def parts(self) -> list[Part] | None:
        """Which documents can be missed after the reading; None where nobody can tell, because it
        reads standard input.
        """
        if any(isinstance(root, StandardInput) for root in self._roots):
            return None
        return [Part(root.scope(), self._would_read(root)) for root in self._roots]

    def obstacle(self, *, named: bool) -> str | None:
        """What was not read, so that it is unknown which documents are still there.

        What is rejected keeps its documents, whose source it is. With a name of its own a source
        does not tell which documents those are.
        """
        return self._unreadable or (self._doubtful if named else None)

    def _would_read(self, root: Root) -> Callable[[str], bool]:
        def would_read(source: str) -> bool:
            """Whether a file would have been read, if it were there, and was not rejected."""
            inside = root.inside(source)
            above = itertools.accumulate(
                inside, lambda path, name: f"{path.rstrip('/')}/{name}", initial=root.origin
            )
            return not self._rejected.intersection(above) and (
                not inside or self._selection.covers(inside)
            )

        return would_read

    def _end(self, origin: str) -> None:
        if self._ended is not None:
            self._ended.append(origin)

    def _all(
        self, roots: Sequence[Root], stdin: BinaryIO | None
    ) -> Generator[Document | Rejection]:
        with ConfinedReader(self._limits, self._max_bytes) as confined:
            for verdict in self._verdicts(roots, stdin, confined):
                if isinstance(verdict, Note):
                    self._report.note(verdict)
                elif isinstance(verdict, Rejection):
                    # It is kept under the key that the document would have.
                    yield replace(verdict, key=self._options.key_prefix + verdict.key)
                else:
                    yield verdict  # type: ignore[misc]  # who asks about objects is told of them

    def _verdicts(
        self, roots: Sequence[Root], stdin: BinaryIO | None, confined: ConfinedReader
    ) -> Iterator[Item]:
        for root in roots:
            if stdin is not None and isinstance(root, StandardInput):
                rows = self._rows(self._options.key or root.name, self._options, root.name)
                yield from self._told(read_stdin(stdin, self._max_bytes, rows), rows)
                continue
            yield from self._below(root, confined)

    def _below(self, root: Root, confined: ConfinedReader) -> Iterator[Item]:
        is_whole, is_empty = root.is_folder, root.is_folder
        unknown = UnknownFiles()
        for source in self._to_read(root):
            is_empty = False
            if isinstance(source, ObjectRead):
                yield source
                continue
            if isinstance(source, Rejection):
                is_whole = is_whole and source.code != "UNREADABLE"
                self._miss(source, is_unread=source.code == "UNREADABLE")
                yield replace(source, source=root.origin)
                continue
            rows = self._rows(source.key, self._options, source.origin)
            verdicts = self._told(self._file(source, rows, confined), rows, source)
            if root.is_folder:
                verdicts = unknown.others(verdicts)
            yield from self._noted(verdicts, source) if self._asks(root) else verdicts
        for verdict in unknown.told(root.prefix):
            yield replace(verdict, source=root.origin)
        if is_empty and root.must_have_files:
            self._unreadable = f"{root.origin}: the folder is empty"
        if is_whole:
            self._end(root.origin)

    def _to_read(self, root: Root) -> Iterator[Source | Rejection | ObjectRead]:
        """Files, and in place of objects that are known what is known."""
        found = root.sources(self._selection, self._report.left_out)
        known = self._known if self._asks(root) else None
        while known is not None and (block := list(itertools.islice(found, _ASKED_AT_ONCE))):
            versions = {
                each.origin: version
                for each in block
                if isinstance(each, Source) and (version := each.version(self._options))
            }
            kept = known(versions) if versions else {}
            for each in block:
                count = kept.get(each.origin) if isinstance(each, Source) else None
                if isinstance(each, Source) and count is not None:
                    yield ObjectRead(each.origin, self.named, [], count, is_kept=True)
                else:
                    yield each
        yield from found

    def _asks(self, root: Root) -> bool:
        return self._known is not None and isinstance(root, ObjectRoot)

    def _miss(self, rejection: Rejection, *, is_unread: bool) -> None:
        """Something was not read: a mirror asks what that means for it."""
        what = f"{rejection.source}: {rejection.reason}"
        if is_unread:
            self._unreadable = self._unreadable or what
        self._doubtful = self._doubtful or what
        if rejection.source is not None:
            self._rejected.add(rejection.source)

    def _told(
        self, verdicts: Iterator[Verdict], rows: Rows, source: Source | None = None
    ) -> Iterator[Verdict]:
        """The verdicts of one file, which goes into the report.

        It is read to its end unless there is a verdict on all of it, other than that it is empty.
        Standard input has no `source`: it never comes again.
        """
        origin = None if source is None else source.origin
        is_whole = origin is not None
        for verdict in guarded(rows.name, verdicts):
            if isinstance(verdict, Rejection):
                is_whole = is_whole and (verdict.key != rows.name or verdict.code == "EMPTY")
                self._hold(placed := replace(verdict, source=origin), rows)
                yield placed
            elif isinstance(verdict, Document) and self.named is not None:
                yield replace(verdict, file=origin)
            else:
                yield verdict
        self._report.add(rows.shape())
        if is_whole and origin is not None:
            self._end(origin)

    def _noted(self, verdicts: Iterator[Verdict], source: Source) -> Iterator[Item]:
        """The verdicts of an object, and what the next reading of it has to know."""
        version = source.version(self._options)
        keys, documents = list[str](), 0
        for verdict in verdicts:
            yield verdict
            if isinstance(verdict, Rejection):
                version = None
            elif isinstance(verdict, Document):
                documents += 1
                keys.append(verdict.key)
                if len(keys) == _KEYS_AT_ONCE:
                    yield ObjectRead(source.origin, self.named, keys, documents)
                    keys = []
        if documents:
            yield ObjectRead(source.origin, self.named, keys, documents, version)

    def _hold(self, rejection: Rejection, rows: Rows) -> None:
        """A file, or a row of one, was rejected. The key tells which document that is where the
        file is one, and a file of an unknown kind never was any. What a parser does not read,
        though it was opened, is rejected as any other.
        """
        if rejection.code == UNKNOWN_TYPE:
            return
        is_unread = rejection.code == "UNREADABLE" and self._parsed != rows.name
        is_one = rejection.key == rows.name and Format.of(rows.name).suffix not in ROW_READERS
        if is_one and not is_unread and rejection.source is not None:
            self._rejected.add(rejection.source)
        else:
            self._miss(rejection, is_unread=is_unread)

    def _file(self, source: Source, rows: Rows, confined: ConfinedReader) -> Iterator[Verdict]:
        found = Format.of(source.name)
        if not found.is_known:
            raise FileRejected(UNKNOWN_TYPE, f"{found} files are not read")
        verdicts = self._counted(self._opened(source, found, rows, confined))
        if source.former_key is None:
            yield from verdicts
            return
        prefix = self._options.key_prefix
        key, former_key = prefix + source.key, prefix + source.former_key
        yield from (_renamed(verdict, key, former_key) for verdict in verdicts)

    def _opened(
        self, source: Source, found: Format, rows: Rows, confined: ConfinedReader
    ) -> Iterator[Verdict]:
        with source.open() as stream, ExitStack() as opened:
            self._parsed = rows.name if found.is_confined else None
            content = stream
            if found.is_packed:
                size = os.fstat(stream.fileno()).st_size
                limit = self._limits.unpacked_bytes(size, self._max_bytes)
                content = opened.enter_context(unpacked(stream, limit))
            if not found.is_confined:
                yield from read_open(found.suffix, content, self._max_bytes, rows)
                return
            if found.is_packed:
                content = opened.enter_context(on_disk(content))
            yield from confined.read(found.suffix, content, rows)

    def _counted(self, verdicts: Iterator[Verdict]) -> Iterator[Verdict]:
        yield from itertools.islice(verdicts, self._limits.max_rows)
        if next(verdicts, None) is not None:
            raise FileRejected(
                "TOO_MANY_ROWS",
                f"it has more than {self._limits.max_rows:,} rows; the first of them were taken, "
                "and EMBEDFLEET_MAX_ROWS raises the limit",
            )


def _renamed(verdict: Verdict, key: str, former_key: str) -> Verdict:
    """A document of a file with the key that it may have in a collection from before."""
    if not isinstance(verdict, Document) or not verdict.key.startswith(key):
        return verdict
    return replace(verdict, former_key=former_key + verdict.key.removeprefix(key))
