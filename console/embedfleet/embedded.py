"""The embedded stack with its tables: what every command uses where no database is configured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from embedfleet.stack import Endpoints, status, up
from embedfleet.stack.files import Folder
from embedfleet_schema.database import Database
from embedfleet_schema.errors import StackStopped
from embedfleet_schema.revisions import newest
from embedfleet_schema.settings import Settings


def require(settings: Settings, *, running: bool) -> None:
    """Refuse a data folder without an embedded stack, or one whose servers do not run.

    Raises:
        StackStopped: with the command that starts it.
    """
    if not Folder(settings.data).postgres.is_dir():
        state = "were never started"
    elif running and not status(settings.data).running:
        state = "are stopped"
    else:
        return
    from embedfleet.progress import command

    raise StackStopped(data=settings.data, state=state, start=command(settings, "up"))


def ready(data: Path, *, on_step: Callable[[str], None] = lambda _: None) -> Endpoints:
    """Start what does not run, create or upgrade the tables; returns where all listens."""
    endpoints = up(data, on_step=on_step)
    if Database(endpoints.database_url).revision() != newest():
        from embedfleet_schema.migrate import migrate

        on_step("creating the tables")
        migrate(endpoints.database_url)
    return endpoints
