"""The global options of one call, and the fleet that they lead to."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from embedfleet.cli.output import note

if TYPE_CHECKING:
    from embedfleet.fleet import Fleet
    from embedfleet_schema.settings import Settings


@dataclass(frozen=True, slots=True)
class Session:
    """What was written before the command."""

    data: Path | None = None
    debug: bool = False
    # The folder was typed, and may be mistyped; a setting of the environment was thought about.
    typed: bool = False

    def settings(self) -> Settings:
        """The environment's settings, with what this call says otherwise."""
        from embedfleet_schema.settings import load_settings

        # A quoted ~ is ours to expand, and a worker may run in another folder.
        data = self.data.expanduser().resolve() if self.data is not None else None
        return load_settings(data=data)

    @contextmanager
    def fleet(self, *, looks_only: bool = False) -> Iterator[Fleet]:
        """The fleet to work on; the embedded stack is started where no database is configured.

        Not for a command that `looks_only`, and not in a folder that was typed and holds none.

        Raises:
            StackStopped: the stack does not run, and is not to be started.
        """
        from embedfleet.fleet import Fleet

        self.listen_to_logs()
        settings = self.ready(looks_only=looks_only)
        if settings.tracing:
            from embedfleet_schema.tracing import send_spans

            send_spans("embedfleet")
        with Fleet(settings) as fleet:
            yield fleet

    def ready(self, *, looks_only: bool = False) -> Settings:
        """The settings, once their servers are there as far as that is ours to do."""
        settings = self.settings()
        if settings.uses_embedded_stack:
            from embedfleet.embedded import ready, require

            if looks_only or self.typed:
                require(settings, running=looks_only)
            if not looks_only:
                ready(settings.data, on_step=note)
        return settings

    def listen_to_logs(self) -> None:
        """Warnings of the library are notes to the person; with --debug all of it is shown."""
        if self.debug:
            logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
            return
        logging.basicConfig(level=logging.WARNING, format="warning: %(message)s")
        # Said by the commands themselves, in their own words.
        for name in ("embedfleet_schema.broker", "psycopg.pool"):
            logging.getLogger(name).setLevel(logging.ERROR)


def session(context: typer.Context) -> Session:
    """The session of a running command."""
    found = context.find_object(Session)
    return found if found is not None else Session()
