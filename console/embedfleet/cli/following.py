"""`enqueue --watch`: all of the folders once, and from then on what changes in them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from embedfleet.cli.output import note, one_line, print_json, say
from embedfleet_schema.amounts import quantity
from embedfleet_schema.errors import InputMissing, UsageError

if TYPE_CHECKING:
    from embedfleet_producer.enqueue import Enqueued
    from embedfleet_producer.readers.changes import Changed
    from embedfleet_producer.readers.reading import Reading

# How often what could not be deleted is tried again, while nothing else happens.
TRIES = 3


@dataclass(slots=True)
class Following:
    """What becomes of changes: `read` begins a reading of all, `enqueue` stores what is read, and
    `tell` puts that into words.
    """

    read: Callable[[], Reading]
    enqueue: Callable[[Reading], Enqueued]
    tell: Callable[[Enqueued], str]
    mirrors: bool
    json: bool
    passes: int = 0
    documents: int = 0
    deleted: int = 0
    left: Changed | None = None
    tries: int = 0
    is_away: bool = False

    def until_interrupted(self) -> None:
        """Follow until Ctrl-C, and then say what was done.

        Raises:
            UsageError: something else than folders is to be read.
            ExtraMissing: the library that watches is not installed.
        """
        from embedfleet_producer.readers.changes import changes

        folders = self.read().folders
        if not folders:
            raise UsageError(reason="--watch follows folders: give nothing else")
        try:
            for changed in changes(folders, threading.Event()):
                self._take(changed)
        except KeyboardInterrupt:
            stored = quantity(self.documents, "document")
            passes = quantity(self.passes, "pass", "passes")
            note(f"stopped after {passes}: {stored} stored, {self.deleted:,} deleted")

    def _take(self, changed: Changed | None) -> None:
        wanted = None if self.is_away else self._with_left(changed)
        if wanted is not None and not wanted:
            return
        try:
            reading = self.read()
        except InputMissing as missing:
            if not self.is_away:
                note(f"{one_line(str(missing))} It is waited for")
            self.is_away = True
            return
        self.is_away = False
        # With a name of its own a source does not tell which documents came of which file.
        if wanted is not None and not (self.mirrors and reading.named is not None):
            reading = reading.only(wanted)
        done = self.enqueue(reading)
        self.left = wanted if done.undeleted and reading.obstacle(named=False) else None
        self._report(done)

    def _with_left(self, changed: Changed | None) -> Changed | None:
        """The paths to be read: also those of which something could not be deleted."""
        if changed is None or self.left is None:
            return changed
        if not changed and self.tries >= TRIES:
            return changed
        self.tries = 0 if changed else self.tries + 1
        folders = changed.keys() | self.left.keys()
        return {
            each: sorted({*changed.get(each, ()), *self.left.get(each, ())}) for each in folders
        }

    def _report(self, done: Enqueued) -> None:
        self.passes += 1
        self.documents += done.documents
        self.deleted += done.deleted
        if self.json:
            print_json(asdict(done), indent=None)
        elif done.documents or done.deleted or done.rejected or done.undeleted or self.passes == 1:
            say(self.tell(done))
        if done.undeleted is not None and not self.json:
            note(f"kept what may be gone: {one_line(done.undeleted)}")
