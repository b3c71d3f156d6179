"""Files of a folder that no reader knows, told together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath

from embedfleet_producer.readers.formats import Format
from embedfleet_producer.readers.rejections import Verdict
from embedfleet_schema.types import Rejection

# A folder may hold as many suffixes as files: the rest of them are told as one.
MAX_SUFFIXES = 50
UNKNOWN_TYPE = "UNKNOWN_TYPE"


class UnknownFiles:
    """Counts them by suffix, and remembers the first of each."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: dict[str, Rejection] = {}

    def others(self, verdicts: Iterator[Verdict]) -> Iterator[Verdict]:
        """The verdicts but those on such files, which are counted."""
        for verdict in verdicts:
            if isinstance(verdict, Rejection) and verdict.code == UNKNOWN_TYPE:
                self._add(verdict)
            else:
                yield verdict

    def _add(self, rejection: Rejection) -> None:
        suffix = str(Format.of(PurePosixPath(rejection.key).name))
        if suffix not in self._counts and len(self._counts) >= MAX_SUFFIXES:
            suffix = ".*"
        self._counts[suffix] += 1
        self._first.setdefault(suffix, rejection)

    def told(self, prefix: str) -> Iterator[Rejection]:
        """One rejection for each suffix."""
        for suffix, count in sorted(self._counts.items()):
            first = self._first[suffix]
            files = "1 file" if count == 1 else f"{count:,} files"
            pattern = f"*{suffix}" if suffix else "*"
            reason = f"{files}, the first {first.key}: {first.reason}"
            yield Rejection(f"{prefix}{pattern}", UNKNOWN_TYPE, reason)
