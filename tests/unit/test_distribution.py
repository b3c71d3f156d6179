"""What of the tests goes to one process of several."""

from pathlib import Path

import pytest

from plugins.distribution import group

ROOT = Path(__file__).parents[2]
MODELS = [
    "tests/unit/test_embedders_local.py",
    "tests/conformance/test_embedders.py",
    "tests/integration/test_selfcheck.py",
    "tests/acceptance/test_folder.py",
]


def test_all_that_load_a_model_are_one_group():
    assert {"torch"} == {group(ROOT, f"{file}::test_a[b]") for file in MODELS}


@pytest.mark.parametrize(
    ("file", "together"),
    [
        ("tests/acceptance/test_demo.py", "tests/acceptance/test_demo.py"),
        ("tests/integration/test_fleet.py", "tests/integration/test_fleet.py"),
        ("tests/unit/test_stdlib_docs.py", "tests/unit/test_stdlib_docs.py"),
        ("tests/unit/test_decisions.py", "tests/unit/test_decisions.py::test_a"),
    ],
)
def test_a_file_stays_whole_but_for_unit_tests_that_share_no_fixture(file, together):
    assert together == group(ROOT, f"{file}::test_a[b::c]")
