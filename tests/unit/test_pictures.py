"""The pictures of the documents: each is there, each is shown, none is large."""

import re
from pathlib import Path

from plugins.documents import DOCUMENTS, ROOT

PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)]+)\)")
MOST_BYTES = 150_000


def shown() -> list[tuple[str, Path]]:
    """What each picture is said to show, and where it lies."""
    return [
        (words, (path.parent / target).resolve())
        for path in DOCUMENTS
        for words, target in PICTURE.findall(path.read_text())
    ]


def test_each_picture_that_is_shown_is_there_and_says_in_words_what_it_shows():
    assert shown()
    for words, path in shown():
        assert path.is_file(), path
        assert words, path


def test_each_picture_that_is_there_is_small_and_shown():
    there = {path.resolve() for path in (ROOT / "docs/images").iterdir()}
    assert {path for _, path in shown()} == there
    assert [] == [path for path in there if path.stat().st_size > MOST_BYTES]


def test_each_picture_of_the_console_is_made_by_the_tests_of_its_pages():
    source = (ROOT / "tests/browser/test_console_browser.py").read_text()
    for path in (ROOT / "docs/images").glob("console-*.png"):
        assert f'"{path.stem.removeprefix("console-")}": (' in source
