"""What a file says of itself beside its text: a title, front matter. It never costs the text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from embedfleet_producer.readers.rejections import Note, Verdict
from embedfleet_producer.validation import metadata_fault
from embedfleet_schema.types import Document

MAX_TITLE_CHARACTERS = 1_000


def described(document: Document, said: Mapping[str, Any]) -> Iterator[Verdict]:
    """The document with what its file says over what the reader says, and notes on the rest."""
    kept: dict[str, Any] = {}
    for name, value in said.items():
        fault = metadata_fault({name: value})
        if fault is None:
            kept[name] = value
        else:
            yield dropped(document.key, name, fault)
    metadata = {**document.metadata, **kept}
    fault = metadata_fault(metadata)
    if fault is None:
        yield replace(document, metadata=metadata)
    else:
        yield dropped(document.key, ", ".join(kept), fault)
        yield document


def dropped(key: str, name: str, reason: str) -> Note:
    return Note(key, "METADATA_DROPPED", f"{name[:100]}: {reason}")


def titled(document: Document, title: object) -> Iterator[Verdict]:
    """The document with a title from its file, which may be anything, or nothing."""
    if title is None or title == "":
        yield document
    elif not isinstance(title, str):
        yield dropped(document.key, "title", f"it is not text but a {type(title).__name__}")
        yield document
    else:
        line = " ".join(title.replace("\0", "").split())
        yield from described(document, {"title": line[:MAX_TITLE_CHARACTERS]} if line else {})
