"""Tables as an earlier release left them."""

import subprocess
import sys
from pathlib import Path

from embedfleet_schema import migrate
from embedfleet_schema.migrate import prepared
from embedfleet_schema.roles import renew_grants

ROOT = Path(__file__).parents[2]
# What the command `alembic` does, once for each revision.
UPGRADES = """
import sys
from alembic.config import main
for revision in sys.argv[1:]:
    main(["upgrade", revision])
    main(["current"])
"""


def alembic(url: str, *revisions: str) -> list[str]:
    """Upgrade with plain Alembic, as its own command does, to one revision after the other.

    Returns the revision that it finds after each.
    """
    done = subprocess.run(
        [sys.executable, "-c", UPGRADES, *revisions],
        cwd=ROOT,
        env={"EMBEDFLEET_DATABASE_URL": url, "PATH": ""},
        check=True,
        capture_output=True,
        text=True,
    )
    return [line.split()[0] for line in done.stdout.splitlines()]


def upgrade(url: str, revision: str) -> None:
    """Upgrade as `migrate` does, and no further than to a revision."""
    with prepared(url) as connection:
        migrate.upgrade(connection, revision)
    renew_grants(url)
