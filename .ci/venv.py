#!/usr/bin/env python3
"""Create the virtual environment unless it is whole, then install embedfleet into it, editable.

Usage, from the root of the repository: venv.py FOLDER EXTRAS
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

LINE_EVERY_SECONDS = 4.0
# Of what pip says, what takes time.
STEPS = ("Collecting", "Downloading", "Processing", "Building", "Installing", "  Downloading")
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
    say(f"Creating {folder} with {sys.executable}")
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)


def install(folder: Path, extras: str) -> int:
    """Run pip and return its exit status; a person who waits sees what it is doing."""
    say(f"Installing embedfleet[{extras}]: minutes the first time, seconds later")
    unfinished(folder).touch()
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    what = ["--constraint", "constraints.txt", "--editable", f".[{extras}]"]
    command = [*pip, "install", "--no-input", *what]
    if sys.stdout.isatty():
        status = subprocess.run(command, check=False).returncode
    else:
        status = retold(command)
    if status >= 0:  # negative: killed, in the middle of a package perhaps
        unfinished(folder).unlink()
    return status


def retold(command: Sequence[str]) -> int:
    """Run pip, and print a line of its hundreds every few seconds; its errors all pass."""
    told_at = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace") as pip:
        for line in pip.stdout or ():
            now = time.monotonic()
            if line.startswith(STEPS) and now - told_at >= LINE_EVERY_SECONDS:
                told_at = now
                say(f"  {line.strip()[:100]}")
    return pip.returncode


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(folder: Path, extras: str) -> int:
    with Path("pyproject.toml").open() as project:
        fcntl.flock(project, fcntl.LOCK_EX)  # two makes at once take turns
        if not is_whole(folder):
            create(folder)
        return install(folder, extras)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
