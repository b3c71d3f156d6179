#!/usr/bin/env python3
"""Create the virtual environment unless it is whole, then install embedfleet into it, editable.

Usage, from the root of the repository: venv.py FOLDER EXTRAS
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

USABLE = "import sys, pip; sys.exit(sys.version_info < (3, 11))"


def unfinished(folder: Path) -> Path:
    """The file that is there while pip works: found later, it tells of a half-made install."""
    return folder / ".unfinished"


def is_whole(folder: Path) -> bool:
    python = folder / "bin" / "python"
    if unfinished(folder).exists() or not python.exists():
        return False
    return subprocess.run([python, "-c", USABLE], capture_output=True, check=False).returncode == 0


def create(folder: Path) -> None:
    sys.stdout.write(f"Creating {folder} with {sys.executable}\n")
    sys.stdout.flush()
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)


def install(folder: Path, extras: str) -> int:
    """Run pip and return its exit status; what it prints is for the person who waits."""
    sys.stdout.write(f"Installing embedfleet[{extras}]: minutes the first time, seconds later\n")
    sys.stdout.flush()
    unfinished(folder).touch()
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    what = ["--constraint", "constraints.txt", "--editable", f".[{extras}]"]
    status = subprocess.run([*pip, "install", "--no-input", *what], check=False).returncode
    if status >= 0:  # negative: killed, in the middle of a package perhaps
        unfinished(folder).unlink()
    return status


def main(folder: Path, extras: str) -> int:
    with Path("pyproject.toml").open() as project:
        fcntl.flock(project, fcntl.LOCK_EX)  # two makes at once take turns
        if not is_whole(folder):
            create(folder)
        return install(folder, extras)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
