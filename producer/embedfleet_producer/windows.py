"""Windows: a stream cut into pieces that one transaction can take, whatever its length."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Iterable, Iterator
from dataclasses import dataclass, field

from embedfleet_producer.judge import Judged, judge
from embedfleet_producer.origins import duplicate
from embedfleet_schema.types import Document, Rejection

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
            self.rejected.append(duplicate(item.document, first.document))

    def __len__(self) -> int:
        return len(self.accepted) + len(self.rejected)


def windows(
    stream: Documents, *, max_documents: int, max_bytes: int, max_document_bytes: int
) -> Iterator[Window]:
    """Judge a stream and cut it: a window ends at either limit, and nothing is read ahead of it."""
    window = Window()
    for item in stream:
        if isinstance(item, Rejection):
            window.add(item)
        else:
            window.add(judge(item, max_bytes=max_document_bytes))
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
