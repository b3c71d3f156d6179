"""Windows: a stream cut into pieces that one transaction can take, whatever its length."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Iterable, Iterator
from dataclasses import dataclass, field

from embedfleet_producer.judge import Judged, judge
from embedfleet_producer.ready_made import ChunkFunction, cut_by
from embedfleet_schema.types import ChunkMode, Document, Rejection

Documents = Iterable[Document | Rejection]
AsyncDocuments = AsyncIterable[Document | Rejection]


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
    stream: Documents,
    *,
    max_documents: int,
    max_bytes: int,
    max_document_bytes: int,
    mode: ChunkMode = "text",
    function: ChunkFunction | None = None,
) -> Iterator[Window]:
    """Judge a stream and cut it: a window ends at either limit, and nothing is read ahead of it.

    A caller's function cuts the texts here: its chunks tell whether a document has changed.
    """
    window = Window()
    for item in stream:
        if isinstance(item, Rejection):
            window.add(item)
        else:
            judged = judge(item, max_bytes=max_document_bytes, mode=mode)
            if function is not None and isinstance(judged, Judged):
                judged = cut_by(function, judged, mode)
            window.add(judged)
        if len(window) >= max_documents or window.size >= max_bytes:
            yield window
            window = Window()
    if len(window):
        yield window


def blocking(stream: AsyncDocuments, loop: asyncio.AbstractEventLoop) -> Iterator[Document]:
    """An asynchronous stream as a plain one, for a thread beside the event loop that feeds it."""
    source = aiter(stream)
    ended = object()

    async def following() -> object:
        return await anext(source, ended)

    while True:
        item = asyncio.run_coroutine_threadsafe(following(), loop).result()
        if item is ended:
            return
        yield item  # type: ignore[misc]
