"""What a bare machine runs first: make's targets, the search for a Python, the constraints."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TARGETS = [
    *(
        "help",
        "demo",
        "test",
        "test-fast",
        "test-light",
        "test-managed",
        "test-integrations",
        "test-browser",
        "test-docs",
        "test-hosts",
        "faults",
        "check",
        "docs",
        "dist",
        "test-dist",
    ),
    *("bench", "bench-limits", "bench-gpu", "fleet", "down", "clean"),
]


def pinned() -> dict[str, Requirement]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    found = [Requirement(line) for line in lines if not line.startswith("#")]
    return {canonicalize_name(requirement.name): requirement for requirement in found}


def declared() -> list[Requirement]:
    extras = PROJECT["optional-dependencies"].values()
    return [Requirement(line) for lines in (PROJECT["dependencies"], *extras) for line in lines]


HANDED_DOWN = {"PYTHON", "VENV", "ARGS", "BENCH", "PART"}


def make(*arguments: str, **run: object) -> str:
    # A make that runs these tests hands its variables down, those of its own command line too.
    environment = {
        name: value
        for name, value in os.environ.items()
        if "MAKE" not in name and name not in HANDED_DOWN
    }
    done = subprocess.run(
        [shutil.which("make"), "--no-print-directory", *arguments],
        cwd=ROOT,
        env=environment,
        **run,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def find_python(folder: Path, *names: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(
        [ROOT / ".ci/find-python", *names],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def program(folder: Path, name: str, exit_status: int) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\nexit {exit_status}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def venv_script():
    spec = importlib.util.spec_from_file_location("venv_script", ROOT / ".ci/venv.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


@pytest.fixture
def installed(tmp_path) -> Path:
    """A virtual environment's folder with the stamps of an install that just ended."""
    for stamp in (".for-use", ".for-development"):
        (tmp_path / stamp).touch()
    return tmp_path


def test_make_alone_lists_every_target():
    listed = [line.split()[1] for line in make().splitlines()]
    assert listed == TARGETS


@pytest.mark.parametrize(
    "target", ["demo", "test", "test-fast", "faults", "check", "bench", "bench-limits", "fleet"]
)
def test_a_target_installs_what_it_needs_first(tmp_path, target):
    plan = make("--dry-run", target, f"VENV={tmp_path / 'new'}")
    assert ".ci/find-python python3.13 python3.12 python3.11 python3" in plan
    assert "local,api,embedded,readers,demo" in plan


@pytest.mark.parametrize(
    "target", ["demo", "test", "test-fast", "check", "bench", "bench-limits", "fleet"]
)
def test_a_second_run_installs_nothing(installed, target):
    assert ".ci/venv.py" not in make("--dry-run", target, f"VENV={installed}")


def test_a_changed_constraint_installs_again(installed):
    (installed / ".for-development").touch()
    os.utime(installed / ".for-development", (0, 0))
    assert ".ci/venv.py" in make("--dry-run", "test", f"VENV={installed}")


def test_an_install_that_was_cut_off_is_made_again(installed):
    (installed / ".unfinished").touch()
    os.utime(installed / ".for-development", (1, 1))
    assert ".ci/venv.py" in make("--dry-run", "test", f"VENV={installed}")


def test_arguments_reach_pytest(installed):
    plan = make("--dry-run", "test", f"VENV={installed}", "ARGS=-k chunk")
    assert re.fullmatch(rf"{installed}/bin/pytest -n 6 .* -k chunk\n", plan)


def test_the_slowest_tests_are_told(installed):
    for target in ("test", "test-fast", "test-light"):
        assert "--durations 10" in make("--dry-run", target, f"VENV={installed}")


def test_the_quick_tests_are_those_of_units_and_promises_without_a_model(installed):
    plan = make("--dry-run", "test-fast", f"VENV={installed}")
    assert 'tests/conformance tests/unit -m "not torch and not nightly"' in plan


def test_what_tests_start_reads_compiled_sources(monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    told = f"include {ROOT / 'Makefile'}\ntold: ; @echo [$$PYTHONDONTWRITEBYTECODE]\n"
    assert "[]\n" == make("-f", "-", "told", input=told)


def test_a_machine_with_a_gpu_runs_its_own_python_and_installs_nothing(tmp_path):
    for arguments, python in (
        (("PYTHON=python3", f"VENV={tmp_path}"), "python3"),
        ((f"VENV={tmp_path}",), "python3"),
        ((f"VENV={Path(sys.prefix)}",), f"{sys.prefix}/bin/python"),
    ):
        plan = make("--dry-run", "bench-gpu", "ARGS=--json", *arguments)
        assert f"PYTHONPATH=schema:workers {python} benchmarks/gpu.py --json\n" == plan


def test_the_demo_needs_no_tools_of_development(tmp_path):
    assert ",dev" not in make("--dry-run", "demo", f"VENV={tmp_path / 'new'}")
    assert ",dev" in make("--dry-run", "test", f"VENV={tmp_path / 'new'}")


def test_stopping_what_was_never_started_says_so(tmp_path):
    assert "Nothing to stop" in make("down", f"VENV={tmp_path / 'none'}")


def test_a_python_that_exists_and_fails_is_passed_over(tmp_path):
    program(tmp_path, "python3.13", exit_status=127)
    works = program(tmp_path, "python3.12", exit_status=0)
    found = find_python(tmp_path, "python3.14-missing", "python3.13", "python3.12", "python3")
    assert f"{works}\n" == found.stdout


def test_no_python_at_all_is_an_error_that_says_what_to_do(tmp_path):
    program(tmp_path, "python3.13", exit_status=1)
    found = find_python(tmp_path, "python3.13")
    assert (found.returncode, found.stdout) == (1, "")
    assert "make PYTHON=/path/to/python3" in found.stderr


def test_a_half_made_environment_is_made_anew(venv_script, tmp_path):
    folder = tmp_path / "venv"
    (folder / "lib").mkdir(parents=True)
    (folder / "lib" / "rest").touch()

    assert not venv_script.is_whole(folder)
    venv_script.create(folder)
    assert venv_script.is_whole(folder)
    assert not (folder / "lib" / "rest").exists()

    venv_script.unfinished(folder).touch()
    assert not venv_script.is_whole(folder)


def test_every_dependency_is_pinned_to_a_version_that_the_project_allows():
    # An extra that is another name for one names the project itself.
    foreign = [each for each in declared() if each.name != PROJECT["name"]]
    for requirement in foreign:
        (pin,) = pinned()[canonicalize_name(requirement.name)].specifier
        assert pin.operator == "=="
        assert requirement.specifier.contains(pin.version), requirement


def test_constraints_are_sorted_and_named_once():
    names = [
        re.split("[= ]", line)[0].lower()
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    ]
    assert sorted(set(names)) == names


def test_torch_may_be_any_build_of_its_version():
    (pin,) = pinned()["torch"].specifier
    assert "+" not in pin.version
    assert pinned()["torch"].specifier.contains(f"{pin.version}+cpu")


def test_the_constraints_name_nothing_of_this_machine():
    assert not {"embedfleet", "pip", "setuptools"} & set(pinned())


def test_the_script_of_ci_runs_check_and_test():
    script = (ROOT / ".ci/run").read_text()
    assert os.access(ROOT / ".ci/run", os.X_OK)
    assert script.startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in script
    steps = [line.strip() for line in script.splitlines() if "make " in line and "#" not in line]
    targets = ("check", "test", "test-managed PART=servers")
    assert [f"make {target} </dev/null" for target in targets] == steps[:3]
    assert "make test-integrations </dev/null" == steps[-3]
    # Where root may make network namespaces.
    assert "make test-hosts </dev/null" == steps[-2]
    assert "make test-hosts is left out" in steps[-1]


PIP = """
import sys
for step in ("Collecting torch", "  Using cached x", "Downloading torch.whl", "noise"):
    print(step, flush=True)
print("ERROR: no such version", file=sys.stderr)
sys.exit(3)
"""


def test_an_install_without_a_terminal_tells_its_steps_now_and_then(
    venv_script, monkeypatch, capfd
):
    monkeypatch.setattr(venv_script, "LINE_EVERY_SECONDS", 0.0)
    assert 3 == venv_script.retold([sys.executable, "-c", PIP])
    said = capfd.readouterr()
    assert "  Collecting torch\n  Downloading torch.whl\n" == said.out
    assert "ERROR: no such version\n" == said.err
    monkeypatch.setattr(venv_script, "LINE_EVERY_SECONDS", 3_600.0)
    assert 3 == venv_script.retold([sys.executable, "-c", PIP])
    assert "" == capfd.readouterr().out


CHILD = """
import subprocess, sys
sys.path.insert(0, "tests")
import conftest
ask = "from signal import *; print([getsignal(each) == SIG_IGN for each in (SIGINT, SIGHUP)])"
subprocess.run([sys.executable, "-c", ask], check=True)
"""


def test_tests_that_run_in_the_background_can_press_ctrl_c():
    # A shell ignores SIGINT for what ends with an &, and nohup SIGHUP.
    ignoring = ["/bin/sh", "-c", "trap '' INT HUP; exec \"$@\"", "sh", sys.executable, "-c"]
    told = subprocess.run(
        [*ignoring, CHILD], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert "[False, False]\n" == told
