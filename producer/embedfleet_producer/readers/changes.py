"""What changes below folders, in batches: each is told once it has been quiet for a moment."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from embedfleet_schema.errors import ExtraMissing

Changed = Mapping[str, Sequence[tuple[str, ...]]]

# A batch ends when nothing has changed for so long, and at the latest after the other time.
QUIET_MS = 400
LONGEST_MS = 3_000
# How often it is looked whether the folders are still there.
LOOK_MS = 1_000
# With more paths it is quicker to read everything.
MOST_PATHS = 1_000


def changes(folders: Sequence[str], stopping: threading.Event) -> Iterator[Changed | None]:
    """Paths that changed, by folder; None where all of the folders is to be read, because that is
    the beginning, or they came back. An empty mapping says that nothing has changed for a moment.

    A folder that vanishes is waited for. What changes while a batch is read is in the next one.

    Args:
        folders: absolute paths.
        stopping: ends it.

    Raises:
        ExtraMissing: the library that watches is not installed.
    """
    try:
        from watchfiles import watch
    except ImportError as error:
        raise ExtraMissing(feature="--watch", extra="watch") from error
    while not stopping.is_set():
        with _held(folders) as there:
            if None in there:
                yield {}
                stopping.wait(LOOK_MS / 1_000)
                continue
            watching = watch(
                *folders,
                watch_filter=None,
                debounce=LONGEST_MS,
                step=QUIET_MS,
                stop_event=stopping,
                rust_timeout=LOOK_MS,
                yield_on_timeout=True,
                raise_interrupt=True,
            )
            try:
                # It watches from its first answer on, and only then all is read.
                found = next(watching, None)
                yield None
                while found is not None and there == [_identity(folder) for folder in folders]:
                    yield _by_folder(folders, (path for _, path in found))
                    found = next(watching, None)
            except FileNotFoundError:
                continue  # it vanished before it could be watched
            finally:
                watching.close()


@contextmanager
def _held(folders: Sequence[str]) -> Iterator[list[tuple[int, int] | None]]:
    """The identities of folders, kept open: no other folder gets the number of one that is removed
    meanwhile. A folder that was replaced is another one, and nobody watches it.
    """
    with ExitStack() as opened:
        found: list[tuple[int, int] | None] = []
        for folder in folders:
            place: str | int = folder
            with suppress(OSError):
                place = os.open(folder, os.O_RDONLY)
                opened.callback(os.close, place)
            found.append(_identity(place))
        yield found


def _identity(folder: str | int) -> tuple[int, int] | None:
    try:
        found = os.stat(folder)  # noqa: PTH116 - as of a path that may not be there
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _by_folder(folders: Sequence[str], paths: Iterable[str]) -> Changed | None:
    """Where a folder changed with what is in it, the folder alone."""
    changed: dict[str, set[tuple[str, ...]]] = {}
    for path in paths:
        for folder in folders:
            if path != folder and Path(path).is_relative_to(folder):
                changed.setdefault(folder, set()).add(Path(path).relative_to(folder).parts)
    if sum(map(len, changed.values())) > MOST_PATHS:
        return None
    return {
        folder: sorted(
            parts
            for parts in found
            if not any(parts[:depth] in found for depth in range(1, len(parts)))
        )
        for folder, found in changed.items()
    }
