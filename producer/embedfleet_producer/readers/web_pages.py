"""HTML files: the text that a person would read, a line break between blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BufferedReader
from typing import TYPE_CHECKING

from embedfleet_producer.readers.file_metadata import titled
from embedfleet_producer.readers.rejections import FileRejected, Verdict, short_reason
from embedfleet_producer.readers.text import read_text, text_document
from embedfleet_schema.errors import ExtraMissing

if TYPE_CHECKING:
    from bs4 import BeautifulSoup
    from bs4.element import PageElement

_UNSEEN = frozenset({"script", "style", "noscript", "template", "title"})
_BLOCKS = frozenset(
    re.findall(
        r"\w+",
        """address article aside blockquote body br button caption center dd details dialog div dl
        dt fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 header hgroup hr legend li main
        menu nav ol optgroup option p pre search section select summary table tbody textarea tfoot
        thead tr ul""",
    )
)
_CELLS = frozenset({"td", "th"})
_SPACES = re.compile(r"\s+")
# bs4 warns of markup that looks like XML or a file name, which is to be read all the same. Nothing
# that begins with this looks so.
_AS_HTML = "<?html>"
_GAPS = re.compile(r"\n{3,}")


def read_html(key: str, stream: BufferedReader, max_bytes: int) -> Iterator[Verdict]:
    """One document per page; its title goes to the metadata."""
    try:
        import bs4
    except ImportError as error:
        raise ExtraMissing(feature="Reading .html files", extra="readers") from error
    markup = read_text(stream, max_bytes)
    try:
        soup = bs4.BeautifulSoup(_AS_HTML + markup, "html.parser")
    except (bs4.exceptions.ParserRejectedMarkup, RecursionError) as error:
        raise FileRejected("UNREADABLE", f"not HTML: {short_reason(error)}") from error
    title = soup.title.get_text() if soup.title else ""
    yield from titled(text_document(key, page_text(soup), "html"), title)


def page_text(soup: BeautifulSoup) -> str:
    """The visible text: blocks on lines of their own, white space as a browser collapses it."""
    written: list[str] = []
    last = "\n"
    for piece, is_verbatim in _pieces(soup):
        text = piece if is_verbatim else _SPACES.sub(" ", piece)
        if text[:1] == " " and last.isspace() and not is_verbatim:
            text = text[1:]
        if text:
            written.append(text)
            last = text[-1]
    lines = [line.rstrip() for line in "".join(written).split("\n")]
    return _GAPS.sub("\n\n", "\n".join(lines)).strip()


def _pieces(soup: BeautifulSoup) -> Iterator[tuple[str, bool]]:
    """Texts and breaks in reading order, and whether their white space counts.

    A stack and not recursion, and one pass: pages nest deeper than Python's stack and have more
    siblings than a search among them for each could bear.
    """
    from bs4.element import CData, PreformattedString, Tag

    pending: list[tuple[PageElement | str, bool]] = [(soup, False)]
    while pending:
        node, in_pre = pending.pop()
        if isinstance(node, Tag):
            if node.name in _UNSEEN:
                continue
            in_pre = in_pre or node.name == "pre"
            edge = (_edge(node.name), node.name in _BLOCKS)
            yield edge
            pending.append(edge)
            pending.extend((child, in_pre) for child in reversed(node.contents))
        elif isinstance(node, CData) or not isinstance(node, PreformattedString):
            yield str(node), in_pre


def _edge(tag: str) -> str:
    if tag in _BLOCKS:
        return "\n"
    return " " if tag in _CELLS else ""
