"""The size of modules and functions, and where SQL stands."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = [
    path
    for folder in ("schema", "producer", "workers", "console")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "migrations" not in path.parts
]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
MAX_MODULE_LINES = 350
P90_FUNCTION_LINES = 30

# How a statement of PostgreSQL begins, as we write it.
STATEMENT = re.compile(
    r"\s*(SELECT|WITH|VALUES|INSERT|UPDATE|DELETE|MERGE|COPY|TRUNCATE|CREATE|ALTER|DROP|GRANT|REVOKE"
    r"|SET|RESET|SHOW|BEGIN|COMMIT|ROLLBACK|SAVEPOINT|LOCK|DO|CALL|EXPLAIN|ANALYZE|VACUUM|REINDEX"
    r"|DECLARE|FETCH|LISTEN|NOTIFY)\b"
)
NO_STATEMENTS_OF_OURS = {
    "CREATE DATABASE {}": "the stack makes the database before anything of ours is in it",
    "ALTER ROLE or DATABASE ... RESET default_transaction_read_only": "advice to a person",
    "VACUUM embedfleet.": "advice to a person",
    " RESET (autovacuum_enabled)": "advice to a person",
}


@pytest.fixture(scope="module")
def nodes():
    """The syntax of all modules, which takes a while to read."""
    return [node for path in MODULES for node in ast.walk(ast.parse(path.read_text()))]


def test_modules_are_found():
    assert len(MODULES) > 40


def test_no_module_outgrows_one_responsibility():
    lengths = {path: len(path.read_text().splitlines()) for path in MODULES}
    assert {} == {path: lines for path, lines in lengths.items() if lines > MAX_MODULE_LINES}


def test_a_model_runtime_is_loaded_by_the_tests_that_use_it_and_not_by_all():
    heavy = re.compile(
        r"^(?:import|from) (?:torch|transformers|sentence_transformers)\b", re.MULTILINE
    )
    found = [path.name for path in TESTS if heavy.search(path.read_text())]
    assert [] == found


def test_nine_functions_of_ten_fit_a_screen(nodes):
    lengths = sorted(
        node.end_lineno - node.lineno + 1
        for node in nodes
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    assert lengths[int(len(lengths) * 0.9)] <= P90_FUNCTION_LINES


def test_no_statement_of_sql_stands_in_python(nodes):
    """They stand in .sql files, where one can be read, explained and tuned by itself."""
    found = {
        node.value
        for node in nodes
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and STATEMENT.match(node.value)
    }
    assert found == NO_STATEMENTS_OF_OURS.keys()


def test_no_two_files_of_tests_have_one_name():
    """pytest would import the one in the place of the other."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [] == [name for name, count in names.items() if count > 1]
