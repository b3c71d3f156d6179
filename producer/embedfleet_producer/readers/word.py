"""Word files (.docx): paragraphs, headings, lists and tables as Markdown."""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from io import BufferedReader
from typing import Protocol
from xml.parsers import expat

from embedfleet_producer.readers.file_metadata import dropped, titled
from embedfleet_producer.readers.rejections import FileRejected, Note, Verdict, short_reason
from embedfleet_producer.readers.text import text_document
from embedfleet_producer.readers.word_body import Body
from embedfleet_producer.readers.word_styles import Styles

_BLOCK_BYTES = 65_536
_MAX_DEPTH = 500
_NOTES = ("footnotes.xml", "endnotes.xml")
_BROKEN = (zipfile.BadZipFile, expat.ExpatError, EOFError, NotImplementedError, RuntimeError)


class Handler(Protocol):
    """Hears what is in a part, by local names: Word has two sets of namespaces for the same."""

    def start(self, tag: str, attributes: dict[str, str], /) -> None: ...

    def end(self, tag: str, /) -> None: ...

    def data(self, text: str, /) -> None: ...


def read_docx(key: str, stream: BufferedReader, max_bytes: int) -> Iterator[Verdict]:
    """One document per file; notes at its end, comments and deleted text left out."""
    head = stream.peek(4)[:4]
    if not head:
        raise FileRejected("EMPTY", "it is empty")
    if head == b"\xd0\xcf\x11\xe0":
        raise FileRejected(
            "UNREADABLE", "it is encrypted, or a .doc file: save it as a plain .docx"
        )
    try:
        with zipfile.ZipFile(stream) as archive:
            yield from _verdicts(key, _Parts(archive, max_bytes))
    except _BROKEN as error:
        reason = f"not a readable Word file: {short_reason(error)}"
        raise FileRejected("UNREADABLE", reason) from error


def _verdicts(key: str, parts: _Parts) -> Iterator[Verdict]:
    main = parts.main()
    folder = posixpath.dirname(main)
    styles = Styles()
    yield from _accessory(key, "styles", partial(parts.read, f"{folder}/styles.xml", styles))
    body = Body(styles.levels())
    if not parts.read(main, body):
        raise FileRejected("UNREADABLE", "not a Word file: its main part is missing")
    for name in _NOTES:
        yield from _accessory(key, name, partial(parts.read, f"{folder}/{name}", body))
    text = body.text()
    if not text.strip():
        raise FileRejected("EMPTY", "it has no text")
    title = _Title()
    yield from _accessory(key, "title", partial(parts.read, "docProps/core.xml", title))
    yield from titled(text_document(key, text, "docx", mode="markdown"), title.text)


def _accessory(key: str, name: str, read: Callable[[], object]) -> Iterator[Note]:
    try:
        read()
    except _BROKEN as error:
        yield dropped(key, name, short_reason(error))


class _Title:
    """The title among the core properties."""

    def __init__(self) -> None:
        self.text = ""
        self._is_inside = False

    def start(self, tag: str, _attributes: dict[str, str]) -> None:
        self._is_inside = tag == "title"

    def end(self, _tag: str) -> None:
        self._is_inside = False

    def data(self, text: str) -> None:
        if self._is_inside:
            self.text += text


class _Main:
    """The name of the main part, from the package's relationships."""

    def __init__(self) -> None:
        self.target = "word/document.xml"

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "Relationship" and attributes.get("Type", "").endswith("/officeDocument"):
            self.target = attributes.get("Target", self.target).lstrip("/")

    def end(self, tag: str) -> None:
        """Nothing is kept of it."""

    def data(self, text: str) -> None:
        """Nothing is kept of it."""


class _Parts:
    """The parts of the archive, which together may unfold to a limit."""

    def __init__(self, archive: zipfile.ZipFile, max_bytes: int) -> None:
        self._archive = archive
        self._names = set(archive.namelist())
        self._limit = max_bytes
        self._room = max_bytes

    def main(self) -> str:
        found = _Main()
        self.read("_rels/.rels", found)
        return found.target

    def read(self, name: str, handler: Handler) -> bool:
        """Parse a part; False if it is not there."""
        if name not in self._names:
            return False
        parser = _parser(handler)
        with self._archive.open(name) as part:
            while block := part.read(_BLOCK_BYTES):
                self._room -= len(block)
                if self._room < 0:
                    raise FileRejected(
                        "TOO_LARGE", f"unpacked it has more than {self._limit:,} bytes"
                    )
                parser.Parse(block, False)  # noqa: FBT003 - its signature
        parser.Parse(b"", True)  # noqa: FBT003 - the same
        return True


def _parser(handler: Handler) -> expat.XMLParserType:
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _MAX_DEPTH:
            raise FileRejected("TOO_COSTLY", f"it is nested deeper than {_MAX_DEPTH}")
        handler.start(_local(name), {_local(key): value for key, value in attributes.items()})

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        handler.end(_local(name))

    def no_doctype(*_: object) -> None:
        # What declares entities, and nothing that Word writes.
        raise FileRejected("UNREADABLE", "not a Word file: it declares XML entities")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = handler.data
    parser.StartDoctypeDeclHandler = no_doctype
    return parser


def _local(name: str) -> str:
    return name.rpartition(" ")[2]
