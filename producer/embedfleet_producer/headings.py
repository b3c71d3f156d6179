"""The headings of Markdown: under which of them a place of the text stands."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from embedfleet_schema.types import Mark

# The name of the metadata: the path of headings in force, the outermost first.
HEADINGS = "headings"
# Nobody looks for longer ones, and six of them stand in a path.
LONGEST_HEADING = 200

_LINE = re.compile(r"([^\r\n]*)(?:\r\n?|\n|$)")
# What programs put in front of Markdown, and what is no text of it.
_FRONT_MATTER = re.compile(r"---[ \t]*\r?\n(?:.*\r?\n)*?(?:---|\.\.\.)[ \t]*(?:\r?\n|$)")
_HASHES = re.compile(r"(#{1,6})(?:[ \t]|$)")
_FENCE = re.compile(r"`{3,}|~{3,}")
_CONTAINER = re.compile(r">|(?:[-+*]|\d{1,9}[.)])(?:[ \t]|$)")
_VERBATIM = re.compile(r"<(script|pre|style|textarea)(?:[ \t>]|$)", re.IGNORECASE)
_HTML_BLOCK = re.compile(
    r"</?(?:address|article|aside|base|basefont|blockquote|body|caption|center|col|colgroup|dd|"
    r"details|dialog|dir|div|dl|dt|fieldset|figcaption|figure|footer|form|frame|frameset|h[1-6]|"
    r"head|header|hr|html|iframe|legend|li|link|main|menu|menuitem|nav|noframes|ol|optgroup|"
    r"option|p|param|search|section|summary|table|tbody|td|tfoot|th|thead|title|tr|track|ul)"
    r"(?:[ \t]|/?>|$)",
    re.IGNORECASE,
)
_TAG_ALONE = re.compile(r"<(?:[a-z][\w-]*(?:[ \t][^<>]*)?/?|/[a-z][\w-]*[ \t]*)>$", re.IGNORECASE)

# A line that begins further right is code, or goes on with the paragraph before it.
_DEEPEST_MARGIN = 3

Ends = Callable[[str], bool]


class _Heading(NamedTuple):
    start: int
    level: int
    title: str


def heading_marks(text: str) -> list[Mark]:
    """A mark at each heading: the path of headings from there on.

    Headings are what CommonMark takes for them outside quotations and lists: lines that begin with
    one to six #, and paragraphs underlined with = or -; not in code, and not in HTML.
    """
    marks: list[Mark] = []
    path: list[tuple[int, str]] = []
    for heading in _headings(text):
        path = [(level, title) for level, title in path if level < heading.level]
        path.append((heading.level, heading.title))
        marks.append(Mark(heading.start, {HEADINGS: [title for _, title in path if title]}))
    return marks


def _headings(text: str) -> Iterator[_Heading]:
    front = _FRONT_MATTER.match(text)
    reader = _Reader()
    for match in _LINE.finditer(text, front.end() if front else 0):
        heading = reader.take(match.start(), match[1])
        if heading is not None:
            yield heading


class _Reader:
    """Lines one by one; knows whether they are text, and where their paragraph began."""

    def __init__(self) -> None:
        self._ends: Ends | None = None
        self._paragraph: list[str] = []
        self._begun = 0
        self._in_container = False
        # From which column on a line belongs to the list item before it.
        self._item = 0

    def take(self, start: int, line: str) -> _Heading | None:
        """The heading that this line is, or closes."""
        bare, margin = line.strip(" \t"), _margin(line)
        if self._ends is not None:
            self._ends = None if self._ends(line) else self._ends
        elif not bare:
            self._close()
        elif margin <= _DEEPEST_MARGIN:
            title = _title(bare)
            if title is not None:
                return self._begun_with_hashes(start, bare, title, margin)
            if self._paragraph and (bare.strip("=") == "" or bare.strip("-") == ""):
                return self._underlined(level=1 if bare[0] == "=" else 2)
            self._text(start, bare, margin)
        return None

    def _begun_with_hashes(self, start: int, bare: str, title: str, margin: int) -> _Heading | None:
        self._close()
        self._leave_item(margin)
        level = len(bare) - len(bare.lstrip("#"))
        return None if self._item else _Heading(start, level, title)

    def _text(self, start: int, bare: str, margin: int) -> None:
        ends = _opened(bare, in_paragraph=bool(self._paragraph) or self._in_container)
        container = _CONTAINER.match(bare)
        if ends is None and container is None and self._in_container and not _is_rule(bare):
            return  # it goes on with the paragraph of the container
        self._leave_item(margin)
        if ends is not None:
            self._close()
            # HTML can end on the line that opens it, and a fence cannot.
            self._ends = None if bare[0] == "<" and ends(bare) else ends
        elif _is_rule(bare):
            self._close()
        elif container is not None:
            self._close()
            self._in_container = True
            if bare[0] != ">":
                self._item = margin + container.end()
        else:
            self._begun = self._begun if self._paragraph else start
            self._paragraph.append(bare[:LONGEST_HEADING])

    def _underlined(self, level: int) -> _Heading:
        heading = _Heading(self._begun, level, " ".join(self._paragraph)[:LONGEST_HEADING])
        self._close()
        return heading

    def _leave_item(self, margin: int) -> None:
        if margin < self._item:
            self._item = 0

    def _close(self) -> None:
        self._paragraph = []
        self._in_container = False


def _title(bare: str) -> str | None:
    """The text of a heading that begins with #, without the # that may close it."""
    match = _HASHES.match(bare)
    if match is None:
        return None
    title = bare[match.end() :].strip(" \t")
    opened = title.rstrip("#")
    if not opened or opened[-1] in " \t":
        title = opened.rstrip(" \t")
    return title[:LONGEST_HEADING]


def _opened(bare: str, *, in_paragraph: bool) -> Ends | None:
    """What ends the block of code or HTML that this line opens; None where it opens none."""
    fence = _FENCE.match(bare)
    if fence is not None:
        mark = fence[0]
        return None if mark[0] == "`" and "`" in bare[len(mark) :] else _closes(mark)
    if bare[0] != "<":
        return None
    if bare.startswith("<!--"):
        return lambda line: "-->" in line
    verbatim = _VERBATIM.match(bare)
    if verbatim is not None:
        closing = f"</{verbatim[1].lower()}>"
        return lambda line: closing in line.lower()
    if _HTML_BLOCK.match(bare) or (not in_paragraph and _TAG_ALONE.match(bare)):
        return lambda line: not line.strip(" \t")
    return None


def _closes(mark: str) -> Ends:
    def ends(line: str) -> bool:
        bare = line.strip(" \t")
        is_fence = len(bare) >= len(mark) and bare.strip(mark[0]) == ""
        return is_fence and _margin(line) <= _DEEPEST_MARGIN

    return ends


def _is_rule(bare: str) -> bool:
    marks = bare.replace(" ", "").replace("\t", "")
    return len(marks) > 2 and bare[0] in "-*_" and not marks.strip(bare[0])  # noqa: PLR2004


def _margin(line: str) -> int:
    """The columns before the text of a line; a tab goes to a column of code at least."""
    margin = line[: len(line) - len(line.lstrip(" \t"))]
    return _DEEPEST_MARGIN + 1 if "\t" in margin else len(margin)
