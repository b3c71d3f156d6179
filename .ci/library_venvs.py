#!/usr/bin/env python3
"""Make a virtual environment for each library that reads our views, as its users have it.

Usage, from the root of the repository: library_venvs.py FOLDER

Each file tests/libraries/NAME.txt lists what is in FOLDER/NAME. What is there already and was made
of the same files stays.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LISTS = ROOT / "tests" / "libraries"
# What an editable install of ours depends on.
OURS = ("pyproject.toml", "constraints.txt")


def main(folder: Path) -> int:
    for wanted in sorted(LISTS.glob("*.txt")):
        home = folder / wanted.stem
        stamp = home / ".made-of"
        made_of = digest(wanted)
        if stamp.exists() and stamp.read_text() == made_of:
            continue
        sys.stdout.write(f"Installing {home}: a minute the first time\n")
        sys.stdout.flush()
        subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
        pip = [str(home / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
        # The paths in a list are meant from here.
        command = [*pip, "install", "--quiet", "--no-input", "--requirement", str(wanted)]
        status = subprocess.run(command, cwd=ROOT, check=False).returncode
        if status:
            return status
        stamp.write_text(made_of)
    return 0


def digest(wanted: Path) -> str:
    found = hashlib.sha256(wanted.read_bytes() + sys.version.encode())
    if "-e " in wanted.read_text():
        for name in OURS:
            found.update((ROOT / name).read_bytes())
    return found.hexdigest()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
