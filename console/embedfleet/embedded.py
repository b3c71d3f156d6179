"""The embedded stack with its tables: what every command uses where no database is configured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from embedfleet.stack import Endpoints, up
from embedfleet_schema.database import Database
from embedfleet_schema.revisions import newest


def ready(data: Path, *, on_step: Callable[[str], None] = lambda _: None) -> Endpoints:
    """Start what does not run, create or upgrade the tables; returns where all listens."""
    endpoints = up(data, on_step=on_step)
    if Database(endpoints.database_url).revision() != newest():
        from embedfleet_schema.migrate import migrate

        on_step("creating the tables")
        migrate(endpoints.database_url)
    return endpoints
