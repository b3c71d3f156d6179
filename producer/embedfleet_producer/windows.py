"""Windows: a stream cut into pieces that one transaction can take, whatever its length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from embedfleet_producer.judge import Judged, judge
from embedfleet_schema.types import Document, Rejection

Documents = Iterable[Document | Rejection]


@dataclass(slots=True)
class Window:
    """Judged documents, each key once, and the verdicts on the others."""

    accepted: dict[str, Judged] = field(default_factory=dict)
    rejected: list[Rejection] = field(default_factory=list)
    size: int = 0

    def add(self, item: Judged | Rejection) -> None:
        if isinstance(item, Rejection):
            self.rejected.append(item)
            return
        self.size += item.size
        key = item.document.key
        first = self.accepted.setdefault(key, item)
        if first.digest != item.digest:
            self.rejected.append(duplicate(key))

    def __len__(self) -> int:
        return len(self.accepted) + len(self.rejected)


def duplicate(key: str) -> Rejection:
    reason = "another document of this call has the same key; the first one was taken"
    return Rejection(key, "DUPLICATE_KEY", reason)


def windows(
    stream: Documents, *, max_documents: int, max_bytes: int, max_document_bytes: int
) -> Iterator[Window]:
    """Judge a stream and cut it: a window ends at either limit, and nothing is read ahead of it.

    If the stream raises, what was read of it comes first. Not so if it is cancelled: whoever does
    that wants no more of it.
    """
    window = Window()
    try:
        for item in stream:
            if isinstance(item, Rejection):
                window.add(item)
            else:
                window.add(judge(item, max_bytes=max_document_bytes))
            if len(window) >= max_documents or window.size >= max_bytes:
                full, window = window, Window()
                yield full
    except Exception:
        if len(window):
            yield window
        raise
    if len(window):
        yield window
