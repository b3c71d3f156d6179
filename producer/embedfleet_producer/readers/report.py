"""What a call of `read_paths` has to say beside its documents and rejections."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field

from embedfleet_producer.readers.refusals import Note

log = logging.getLogger(__name__)

NOTES_KEPT = 1_000


@dataclass(slots=True)
class ReadReport:
    """Filled while the stream is read.

    `left_out` counts what was passed over on purpose, by why: "hidden", "excluded", "not
    included", "link" (to what is read under its own name). `notes` are the first of `noted` in
    all: the text was taken, and something beside it was not.
    """

    left_out: Counter[str] = field(default_factory=Counter)
    notes: list[Note] = field(default_factory=list)
    noted: int = 0

    def note(self, note: Note) -> None:
        self.noted += 1
        if len(self.notes) < NOTES_KEPT:
            self.notes.append(note)


class LoggedReport(ReadReport):
    """Of a call that asked for none: what was dropped is still said somewhere."""

    def note(self, note: Note) -> None:
        log.warning("%s: %s: %s", note.key, note.code, note.reason)
