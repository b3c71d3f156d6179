"""The size of things: a module has one responsibility, a function fits a screen."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = [
    path
    for folder in ("schema", "producer", "workers", "console")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "migrations" not in path.parts
]
MAX_MODULE_LINES = 350
P90_FUNCTION_LINES = 30


def function_lengths():
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node.end_lineno - node.lineno + 1


def test_modules_are_found():
    assert len(MODULES) > 40


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_outgrows_one_responsibility(path):
    assert len(path.read_text().splitlines()) <= MAX_MODULE_LINES


def test_nine_functions_of_ten_fit_a_screen():
    lengths = sorted(function_lengths())
    assert lengths[int(len(lengths) * 0.9)] <= P90_FUNCTION_LINES
