"""What a worker does whose tables were migrated past what it knows: one line, and exit code 1."""

from __future__ import annotations

import logging
import os
import threading

from celery.worker import state

from embedfleet_schema.database_errors import SchemaNewer

log = logging.getLogger(__name__)

EXIT_CODE = 1


class NewerTables:
    """Tells the main process of a worker, from any thread of it or from a child of its pool.

    Make it before the pool forks: children write into a pipe of their parent.
    """

    def __init__(self) -> None:
        self._read, self._write = os.pipe()

    def tell(self, error: SchemaNewer) -> None:
        os.write(self._write, f"{error}\n".encode())

    def watch(self) -> None:
        """In the main process: shut down, as when told to, once somebody tells."""
        threading.Thread(target=self._stop, name="embedfleet-newer-tables", daemon=True).start()

    def _stop(self) -> None:
        with os.fdopen(self._read, encoding="utf-8") as told:
            log.critical("%s", told.readline().strip())
            # Celery looks at it whenever its loop comes round; batches under way come to their end.
            state.should_stop = EXIT_CODE
            told.read()
