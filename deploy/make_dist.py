#!/usr/bin/env python3
"""Build what a release has, into dist/: sdist, wheel, SBOM, SHA256SUMS.

Usage, from the root of the repository: make_dist.py [FOLDER]

The same commit gives the same bytes: times come from SOURCE_DATE_EPOCH, else from the commit. The
SBOM lists what a bare install of the wheel brings, as pip resolves it with constraints.txt.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main(target: Path) -> int:
    shutil.rmtree(target, ignore_errors=True)
    build(target)
    (wheel,) = target.glob("*.whl")
    with tempfile.TemporaryDirectory() as folder:
        home = bare_environment(Path(folder), wheel)
        name, version, _ = wheel.name.split("-", 2)
        write_sbom(home, target / f"{name}-{version}.cdx.json")
        say(audited(home))
    write_hashes(target)
    for path in sorted(target.iterdir()):
        say(f"{target.name}/{path.name}")
    return 0


def build(target: Path) -> None:
    """An sdist, and the wheel that is built of it."""
    # Its own environment has the build backend, in the version of constraints.txt.
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(target), str(ROOT)]
    subprocess.run(command, check=True, env=os.environ | epoch(), stdout=subprocess.DEVNULL)


def epoch() -> Mapping[str, str]:
    if "SOURCE_DATE_EPOCH" in os.environ:
        return {}
    show = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    shown = subprocess.run(show, capture_output=True, text=True, check=True)
    return {"SOURCE_DATE_EPOCH": shown.stdout.strip()}


def bare_environment(folder: Path, wheel: Path) -> Path:
    """A virtual environment with the wheel and what it needs, and nothing else."""
    home = folder / "bare"
    venv.create(home, with_pip=False)
    python = str(home / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    constraints = ["--constraint", str(ROOT / "constraints.txt")]
    subprocess.run([*pip, "install", "--quiet", "--no-input", *constraints, wheel], check=True)
    return home


def write_sbom(home: Path, target: Path) -> None:
    """CycloneDX, of the environment."""
    command = [sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible"]
    command += ["--pyproject", str(ROOT / "pyproject.toml"), "--output-format", "JSON"]
    command += ["--output-file", str(target), str(home / "bin" / "python")]
    subprocess.run(command, check=True)
    listed = json.loads(target.read_text(encoding="utf-8"))
    # The path of the wheel that was installed is one of a temporary folder.
    for component in listed.get("components", []):
        references = component.get("externalReferences", [])
        component["externalReferences"] = [
            each for each in references if not each["url"].startswith("file:")
        ]
    target.write_text(json.dumps(listed, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def audited(home: Path) -> str:
    """One line: what pip-audit says of known weaknesses, or that its database was not reached."""
    (packages,) = (home / "lib").glob("python*/site-packages")
    command = [sys.executable, "-m", "pip_audit", "--path", str(packages), "--format", "json"]
    command += ["--progress-spinner=off", "--timeout", "15"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        listed = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError):
        return "pip-audit: NOT AUDITED, its database did not answer"
    known = [each for each in listed if "skip_reason" not in each]
    weak = [
        f"{each['name']} {each['version']}: {found['id']}"
        for each in known
        for found in each["vulns"]
    ]
    if len(known) < len(listed) - 1:  # the wheel itself is on no index yet
        return f"pip-audit: NOT AUDITED, its database knows {len(known)} of {len(listed)} packages"
    return (
        f"pip-audit: {len(known)} packages, {len(weak)} known weaknesses {', '.join(weak)}".strip()
    )


def write_hashes(folder: Path) -> None:
    """As `sha256sum --check SHA256SUMS` reads them."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(folder.iterdir())
    ]
    (folder / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "dist").resolve()))
