"""Tables as an earlier release left them."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def alembic(url: str, revision: str) -> None:
    """Upgrade with plain Alembic, as its own command does."""
    subprocess.run(
        [sys.executable, "-m", "alembic", "upgrade", revision],
        cwd=ROOT,
        env={"EMBEDFLEET_DATABASE_URL": url, "PATH": ""},
        check=True,
        capture_output=True,
    )
