"""The interpreters that a release is tried with."""

import shutil
import subprocess
from functools import cache
from pathlib import Path

VERSIONS = ("3.11", "3.12", "3.13", "3.14")
# A version manager's folder, beside what is on the PATH: its shims there may fail.
MANAGED = Path.home() / ".pyenv" / "versions"


@cache
def interpreters() -> dict[str, Path]:
    """Working interpreters by version: those on the PATH, else those of pyenv."""
    found = {}
    for version in VERSIONS:
        managed = sorted(MANAGED.glob(f"{version}.*/bin/python{version}"))
        named = [shutil.which(f"python{version}"), *managed]
        working = [Path(name) for name in named if name and _works(Path(name))]
        if working:
            found[version] = working[0]
    return found


def _works(python: Path) -> bool:
    tried = [python, "-c", "import venv, ensurepip"]
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0


def pytest_report_header() -> str:
    missing = [version for version in VERSIONS if version not in interpreters()]
    return f"Python {', '.join(interpreters())}; not found: {', '.join(missing) or 'none'}"


def pytest_generate_tests(metafunc) -> None:
    if "python" in metafunc.fixturenames:
        found = interpreters()
        metafunc.parametrize("python", list(found.values()), ids=list(found))
