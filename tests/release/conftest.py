"""The interpreters that a release is tried with."""

import shutil
from pathlib import Path

VERSIONS = ("3.11", "3.12", "3.13", "3.14")
# A version manager's folder: its shims on the PATH fail where a version is not chosen.
MANAGED = Path.home() / ".pyenv" / "versions"


def interpreters() -> dict[str, Path]:
    """By version, those of pyenv, else those on the PATH."""
    found = {}
    for version in VERSIONS:
        managed = sorted(MANAGED.glob(f"{version}.*/bin/python{version}"))
        on_path = shutil.which(f"python{version}")
        if managed:
            found[version] = managed[-1]
        elif on_path and "shims" not in Path(on_path).parts:
            found[version] = Path(on_path)
    return found


def pytest_report_header() -> str:
    missing = [version for version in VERSIONS if version not in interpreters()]
    return f"Python {', '.join(interpreters())}; not found: {', '.join(missing) or 'none'}"


def pytest_generate_tests(metafunc) -> None:
    if "python" in metafunc.fixturenames:
        found = interpreters()
        metafunc.parametrize("python", list(found.values()), ids=list(found))
