"""The documents name only what is there: files, headings, commands, settings, targets, codes."""

import importlib.util
import re
import shlex
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from embedfleet.cli.entry import split_globals
from embedfleet_producer import cutter_pool
from embedfleet_producer.readers import confined
from embedfleet_schema.settings import FORMER, Settings
from plugins.documents import DOCUMENTS, ROOT, Block, blocks, prose
from plugins.followed_pages import (
    NOT_HERE,
    PROGRAMS,
    commands_of,
    left_out,
    reason_of,
)

LINK = re.compile(r"\]\(([^)\s]+)\)")
INLINE = re.compile(r"`([^`\n]+)`")
VARIABLE = re.compile(r"\bEMBEDFLEET_[A-Z][A-Z_]*[A-Z]\b")
CODE = re.compile(r'"([A-Z]{3,}(?:_[A-Z]+)*)"')
# A row of a table whose last cells are a file and what is defined there.
PLACE = re.compile(r"\| `([a-z]+/[\w/]+\.(?:py|sql))` \| `([\w.]+)` \|$", re.MULTILINE)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
DECISIONS = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
BENCHMARKS = sorted((ROOT / "benchmarks").glob("[a-z]*.py"))

each_document = pytest.mark.parametrize(
    "path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT))
)


def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(prose(path)))
    return {heading.replace(" ", "-") for heading in plain}


def shell_lines(block: Block) -> list[str]:
    return block.text.replace("\\\n", " ").splitlines()


def in_shell(path: Path) -> list[list[str]]:
    """The words after `embedfleet` of each call in a document's shell blocks."""
    found = []
    for block in blocks(path, "sh"):
        for line in shell_lines(block):
            words = shlex.split(line, comments=True)
            if "embedfleet" in words and words[0] not in {"git", "pip"}:
                call = words[words.index("embedfleet") + 1 :]
                found.append(call)
    return found


def in_prose(path: Path) -> list[list[str]]:
    """The same of calls that stand in a sentence, where arguments may be left out."""
    calls = (shlex.split(code) for code in INLINE.findall(prose(path)))
    return [words[1:] for words in calls if words[0] == "embedfleet"]


@cache
def command_line():
    from typer.main import get_command

    from embedfleet.cli.app import application

    return get_command(application())


def subcommand(words: list[str]):
    """The command that `words` call, and its own words."""
    command = command_line()
    _, words = split_globals(words)
    while words and (known := getattr(command, "commands", {})):
        name = " ".join(words[:2]) if " ".join(words[:2]) in known else words[0]
        if name not in known:
            break
        command, words = known[name], words[len(name.split()) :]
    return command, words


def generator() -> ModuleType:
    path = ROOT / "docs/generate_configuration.py"
    spec = importlib.util.spec_from_file_location("generate_configuration", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def known_variables() -> set[str]:
    """Settings of the program, by former names too, and what only the compose stack reads."""
    listed = generator().variables
    settings = {name for each in Settings.model_fields.items() for name in listed(*each)}
    settings |= {f"EMBEDFLEET_{name.upper()}" for name in FORMER}
    files = (".env.example", "docker-compose.yml", "deploy/with_secrets.py")
    return settings.union(*(VARIABLE.findall((ROOT / name).read_text()) for name in files))


def given_codes() -> set[str]:
    """The codes of rejections and failures, wherever the source writes one."""
    paths = [
        *(ROOT / "producer").rglob("*.py"),
        ROOT / "workers/embedfleet_workers/decisions.py",
        ROOT / "workers/embedfleet_workers/embedding_errors.py",
        ROOT / "schema/embedfleet_schema/store/sweep.py",
    ]
    written = {code for path in paths for code in CODE.findall(path.read_text())}
    variables = {*confined._ENVIRONMENT, *confined._FRUGAL, cutter_pool._THREADS}
    return written - variables - {"READERS", "ROW_READERS", "NFC", "NFD"}


@each_document
def test_a_link_leads_to_a_file_and_a_heading_that_exist(path):
    targets = [link for link in LINK.findall(prose(path)) if "://" not in link]
    for target in targets:
        name, _, anchor = target.partition("#")
        linked = (path.parent / name).resolve() if name else path
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


@each_document
def test_a_command_in_a_block_is_one_that_the_command_line_takes(path):
    for words in in_shell(path):
        command, rest = subcommand(words)
        assert not hasattr(command, "commands"), words
        # Raises what a person would be told: a missing argument, an unknown option, a bad value.
        command.make_context(words[0], rest)


@each_document
def test_a_command_in_a_sentence_exists_with_its_options(path):
    for words in in_prose(path):
        command, rest = subcommand(words)
        known = {name for parameter in command.params for name in parameter.opts} | {"--help"}
        assert {word for word in rest if word.startswith("-") and word != "-"} <= known, words
        assert not hasattr(command, "commands") or all(word.startswith("-") for word in rest), words


@each_document
def test_a_row_that_names_a_file_and_a_name_in_it_tells_the_truth(path):
    for file, name in PLACE.findall(path.read_text()):
        *_, last = name.split(".")
        defined = rf"(^ *(async )?(def|class) {last}\b)|(^-- name: {last}$)"
        assert re.search(defined, (ROOT / file).read_text(), re.MULTILINE), (file, name)


@each_document
def test_a_make_target_exists(path):
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    calls = [code.split() for code in INLINE.findall(prose(path)) if code.startswith("make ")]
    calls += [
        shlex.split(line, comments=True)
        for block in blocks(path, "sh")
        for line in block.text.splitlines()
        if re.match(r"(\w+=\S+ )*make\b", line)
    ]
    named = {word for words in calls for word in words if re.fullmatch("[a-z]+", word)} - {"make"}
    assert named <= targets


@each_document
def test_a_block_of_python_compiles(path):
    for block in blocks(path, "python"):
        compile(block.text, str(block), "exec")


@each_document
def test_a_variable_is_one_that_something_reads(path):
    assert set(VARIABLE.findall(path.read_text())) <= known_variables()


def test_the_configuration_page_says_what_the_settings_say():
    expected = generator().render()
    advice = "run: python docs/generate_configuration.py"
    assert expected == (ROOT / "docs/configuration.md").read_text(), advice


def test_each_code_of_a_failure_is_explained_and_each_explained_code_exists():
    page = (ROOT / "docs/operations.md").read_text()
    section = page.partition("## Codes\n")[2].partition("\n## ")[0]
    first_cells = re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE)
    assert given_codes() == {code for cell in first_cells for code in INLINE.findall(cell)}


def test_each_benchmark_is_described_and_has_a_place_for_its_figures():
    page = (ROOT / "docs/performance.md").read_text()
    named = set(re.findall(r"benchmarks/([a-z]\w*)\.py", page))
    assert {path.stem for path in BENCHMARKS} == named


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_says_why_what_and_what_follows(path):
    headings = HEADING.findall(path.read_text())
    number = int(path.stem.partition("-")[0])
    assert headings[0].startswith(f"{number}. ")
    assert ["Context", "Decision", "Consequences"] == headings[1:]


def test_every_decision_is_listed():
    index = (ROOT / "docs/decisions/README.md").read_text()
    assert [path.name for path in DECISIONS] == re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", index)


def test_every_example_and_page_is_reachable_from_the_readme():
    seen: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        path = waiting.pop()
        if path in seen or path.suffix != ".md":
            continue
        seen.add(path)
        links = (link.partition("#")[0] for link in LINK.findall(path.read_text()))
        waiting += [(path.parent / link).resolve() for link in links if link and "://" not in link]
    assert set((ROOT / "docs").rglob("*.md")) <= seen


def test_every_statement_that_an_index_may_serve_scans_until_its_limit_is_met():
    pages = ("docs/sql-cookbook.md", "docs/operations.md")
    nearest = re.compile(r"ORDER BY (\w+\.)?embedding")
    served = [
        block
        for page in pages
        for block in blocks(ROOT / page, "sql")
        if nearest.search(block.text) and "EXPLAIN" not in block.text
    ]
    assert served
    iterative = "SET LOCAL hnsw.iterative_scan = relaxed_order;"
    assert [] == [str(block) for block in served if iterative not in block.text]


def test_each_block_is_in_a_language_that_is_run_or_shows_what_is_not():
    shown = {"", "text", "json", "ini", "yaml", "toml", "markdown", "mermaid", "html"}
    languages = {block.language for path in DOCUMENTS for block in blocks(path)}
    assert languages <= {"sh", "python", "sql"} | shown


def test_each_reason_not_to_run_a_command_is_needed_and_names_tests_that_exist():
    reasons = {**PROGRAMS, **NOT_HERE}
    found = set()
    for path in DOCUMENTS:
        found |= {
            left_out(words) for block in blocks(path, "sh") for _, words in commands_of(block)
        }
        found |= {reason_of(block.text) for block in blocks(path, "python", "sql")}
    assert found - {None} == reasons.keys()
    tests = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    assert set(re.findall(r"test_\w+\.py", " ".join(reasons.values()))) <= tests
