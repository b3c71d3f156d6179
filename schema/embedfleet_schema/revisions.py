"""Which revision of the tables this program needs; told from file names, without Alembic."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def newest() -> str:
    """The newest revision: the number that the last file in `migrations/versions` starts with."""
    versions = files("embedfleet_schema").joinpath("migrations", "versions")
    names = (entry.name for entry in versions.iterdir() if entry.name.endswith(".py"))
    return max(name.split("_", 1)[0] for name in names)
