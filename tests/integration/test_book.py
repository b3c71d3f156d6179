"""The book, built as `make docs` builds it: no dead link, and nothing from elsewhere."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from plugins.documents import ROOT

pytestmark = pytest.mark.docs

# What a browser fetches by itself, by the attribute that names it.
FETCHED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}


class Page(HTMLParser):
    """The anchors of a page, what it links to, and what it fetches."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self.fetched: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.add(given["href"])
        if FETCHED.get(tag, "") in given:
            self.fetched.add(given[FETCHED[tag]])


def build(folder: Path) -> Path:
    script = ROOT / "docs/build_site.py"
    done = subprocess.run(
        [sys.executable, script, folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def book(tmp_path_factory) -> Iterator[Path]:
    folder = build(tmp_path_factory.mktemp("book") / "docs")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def pages(book) -> dict[Path, Page]:
    return {path: Page(path) for path in sorted(book.rglob("*.html"))}


def is_elsewhere(url: str) -> bool:
    parts = urlsplit(url)
    return bool(parts.scheme and parts.scheme != "data") or bool(parts.netloc)


def test_each_link_leads_to_a_file_of_the_book_and_to_an_anchor_in_it(book, pages):
    assert len(pages) > 60
    dead = []
    # Links of the page for what is not found are meant from the root of a server.
    for path, page in ((path, page) for path, page in pages.items() if path.name != "404.html"):
        for link in filter(lambda link: not is_elsewhere(link), page.links):
            parts = urlsplit(link)
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target = target / "index.html"
            known = pages[target].anchors if target in pages else set()
            fragment = unquote(parts.fragment)
            # The theme's own way to the top.
            if not target.exists() or fragment not in {"", "__skip", *known}:
                dead.append((path.relative_to(book).as_posix(), link))
    assert [] == dead


def test_no_page_fetches_anything_from_elsewhere(pages):
    fetched = {url for page in pages.values() for url in page.fetched}
    assert fetched
    assert set() == {url for url in fetched if is_elsewhere(url)}


def test_a_second_build_gives_the_same_bytes(book, tmp_path):
    again = build(tmp_path / "docs")
    files = {path.relative_to(book) for path in book.rglob("*") if path.is_file()}
    assert files == {path.relative_to(again) for path in again.rglob("*") if path.is_file()}
    assert [] == [
        name for name in files if (book / name).read_bytes() != (again / name).read_bytes()
    ]


def test_a_link_that_leads_nowhere_ends_the_build(tmp_path):
    copied = tmp_path / "repository"
    names = ("docs", "examples", "deploy", "tests/plugins")
    for name in names:
        shutil.copytree(ROOT / name, copied / name)
    for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"):
        shutil.copy(ROOT / name, copied)
    page = copied / "docs/scale.md"
    page.write_text(page.read_text() + "\n[there](operations.md#no-such-heading)\n")
    command = [sys.executable, copied / "docs/build_site.py", tmp_path / "docs"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "anchor does not exist" in done.stdout + done.stderr
    assert not (tmp_path / "docs").exists()


@pytest.mark.chromium
def test_in_a_browser_the_search_finds_a_page_and_asks_no_server(book, browser):
    browser.open(book / "index.html")
    script = """new Promise(async (done) => {
      const roots = () => [document, ...[...document.querySelectorAll("*")]
        .map((element) => element.shadowRoot).filter(Boolean)];
      const all = (selector) => roots().flatMap((root) => [...root.querySelectorAll(selector)]);
      const soon = async (selector) => {
        while (!all(selector).length) await new Promise((resolve) => setTimeout(resolve, 50));
        return all(selector)[0];
      };
      (await soon(".md-search__button")).click();
      const input = await soon("input[type=search], .md-search input, input[role=combobox]");
      input.focus();
      input.value = "doorbell";
      input.dispatchEvent(new Event("input", { bubbles: true }));
      done((await soon(".md-search a, ol a, [role=listbox] a")).href);
    })"""
    found = browser.evaluate(script)
    assert "architecture.html" in found
    assert {"file", "data"} >= {urlsplit(url).scheme for url in browser.requests}
    assert [] == browser.complaints
