"""The book: its order names every page, and what is generated says what its source says."""

import importlib.util
import tomllib
from collections.abc import Iterator
from types import ModuleType

import pytest

from plugins.documents import DOCUMENTS, ROOT

CONFIGURATION = tomllib.loads((ROOT / "docs/zensical.toml").read_text())["project"]
REFERENCE = ("python.md", "cli.md", "sql.md", "errors.md")


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docs/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def named(entries: list) -> Iterator[str]:
    for entry in entries:
        for value in entry.values():
            yield from [value] if isinstance(value, str) else named(value)


def test_the_order_of_the_book_names_every_page_but_single_decisions_and_nothing_else():
    pages = set(script("build_site").pages().values())
    decisions = {page for page in pages if page.startswith("decisions/0")}
    assert pages - decisions == set(named(CONFIGURATION["nav"]))


def test_every_document_becomes_a_page():
    assert {path.relative_to(ROOT).as_posix() for path in DOCUMENTS} == set(
        script("build_site").pages()
    )


def test_a_link_to_a_file_leads_to_a_page_that_shows_it(tmp_path):
    script("build_site").stage(tmp_path)
    assert "[getting started](getting-started.md#test-your-own-code)" in (
        (tmp_path / "index.md").read_text().replace("\n", " ")
    )
    assert (tmp_path / "examples/index.md").exists()
    assert "````python\n" in (tmp_path / "examples/async_enqueue.py.md").read_text()
    assert "](../examples/" not in (tmp_path / "exchange.md").read_text()


def test_nothing_of_a_server_elsewhere_is_asked_for():
    assert CONFIGURATION["theme"]["font"] is False
    assert CONFIGURATION["plugins"].keys() == {"offline"}


@pytest.mark.parametrize("page", REFERENCE)
def test_a_page_of_the_reference_says_what_its_source_says(page):
    rendered = script("generate_reference").PAGES[page]()
    advice = "run: python docs/generate_reference.py"
    assert rendered == (ROOT / "docs/reference" / page).read_text(), advice
