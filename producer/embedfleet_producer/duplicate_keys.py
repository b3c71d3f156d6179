"""Two documents of one key: the verdict on the second, naming where both come from."""

from __future__ import annotations

from typing import Protocol

from embedfleet_schema.types import Document, Rejection


class Origin(Protocol):
    """Where a document comes from, as far as that is known."""

    @property
    def source(self) -> str | None: ...

    @property
    def row(self) -> int | None: ...


def duplicate(document: Document, first: Origin) -> Rejection:
    """The verdict on a second document of one call; the first one is taken."""
    reason = "another document of this call has the same key; the first one was taken"
    if document.source is not None or first.source is not None:
        reason = f"{reason}. It comes from {_named(first)}, this one from {_named(document)}"
    return Rejection(document.key, "DUPLICATE_KEY", reason, document.place)


def is_taken(document: Document, former: Origin) -> bool:
    """Whether the stored document belongs to another source, so that this is not a new version."""
    return None not in (document.source, former.source) and document.source != former.source


def taken(document: Document, former: Origin) -> Rejection:
    """The verdict on a document whose key is stored with another source."""
    # What to do comes first: paths are long, and reasons are cut when they are stored.
    reason = (
        "another source has this key. Keep both with --key-prefix, or take the key over with "
        f"--replace (replace=True). The stored document comes from {_named(former)}, this one from "
        f"{_named(document)}"
    )
    return Rejection(document.key, "KEY_TAKEN", reason, document.place)


def _named(origin: Origin) -> str:
    source = origin.source or "a source without a name"
    return source if origin.row is None else f"{source}, row {origin.row}"
