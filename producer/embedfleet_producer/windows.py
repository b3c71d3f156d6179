"""Windows: a stream cut into pieces that one transaction can take, whatever its length."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from embedfleet_producer.cutter_pool import CutterPool
from embedfleet_producer.duplicate_keys import duplicate
from embedfleet_producer.embedded_chunks import vector_bytes
from embedfleet_producer.ready_made import ChunkFunction, cut_by
from embedfleet_producer.validation import Validated, validate
from embedfleet_schema.settings import Settings
from embedfleet_schema.store.incoming import ObjectRead
from embedfleet_schema.types import ChunkMode, Document, Rejection

Documents = Iterable[Document | Rejection | ObjectRead]

Judged = Validated | Rejection | ObjectRead

# What each process of a pool has to cut at a time with a caller's function.
_BLOCK_DOCUMENTS = 64


@dataclass(slots=True)
class Window:
    """Validated documents, each key once, verdicts on the others, and objects that were read.

    `contexts` are those that the caller's function said, by key and by what it was asked for: it is
    not asked again.
    """

    accepted: dict[str, Validated] = field(default_factory=dict)
    rejected: list[Rejection] = field(default_factory=list)
    objects: list[ObjectRead] = field(default_factory=list)
    size: int = 0
    contexts: dict[tuple[str, ...], Sequence[str | None]] = field(default_factory=dict)

    def add(self, item: Judged) -> None:
        if isinstance(item, ObjectRead):
            self.objects.append(item)
            return
        if isinstance(item, Rejection):
            self.rejected.append(item)
            return
        self.size += item.size + vector_bytes(item.document)
        key = item.document.key
        first = self.accepted.setdefault(key, item)
        if first.digest != item.digest:
            self.rejected.append(duplicate(item.document, first.document))

    def keys(self) -> list[str]:
        """The keys to ask a collection for, in each spelling that it may hold them in."""
        validated = self.accepted.values()
        former = [each.document.former_key for each in validated if each.document.former_key]
        return [*self.accepted, *former]

    def use_former_keys(self, known: Container[str]) -> None:
        """Give documents the key that a collection holds them by, if that is the former one."""
        for key, validated in list(self.accepted.items()):
            former = validated.document.former_key
            if former is None or former in self.accepted or former not in known or key in known:
                continue
            document = _with_key(validated.document, former)
            renamed = validate(
                document,
                max_bytes=validated.size,
                mode=validated.mode,
                contextual=validated.contextual,
            )
            if isinstance(renamed, Validated):
                self.accepted[former] = renamed
                del self.accepted[key]

    def __len__(self) -> int:
        return len(self.accepted) + len(self.rejected) + len(self.objects)


def _with_key(document: Document, key: str) -> Document:
    """Under the former key, also where its metadata has the key as its path."""
    metadata = dict(document.metadata)
    if metadata.get("path") == document.key:
        metadata["path"] = key
    return replace(document, key=key, former_key=None, metadata=metadata)


def windows(
    stream: Documents,
    settings: Settings,
    *,
    mode: ChunkMode = "text",
    function: ChunkFunction | None = None,
    pool: CutterPool | None = None,
    contextual: bool = False,
) -> Iterator[Window]:
    """Validate a stream and cut it: a window ends at either limit, and nothing is read ahead of it.

    A caller's function cuts the texts here: its chunks tell whether a document has changed. Where a
    pool runs it, some documents are read ahead, one block.

    If the stream raises, what was read of it comes first. Not so if it is cancelled: whoever does
    that wants no more of it.
    """
    judged: Iterator[Judged] = (
        item
        if isinstance(item, Rejection | ObjectRead)
        else validate(item, max_bytes=settings.max_document_bytes, mode=mode, contextual=contextual)
        for item in stream
    )
    if function is not None and pool is not None:
        judged = _cut_in_blocks(judged, settings, mode, pool)
    elif function is not None:
        judged = (
            cut_by(function, item, mode) if isinstance(item, Validated) else item for item in judged
        )
    window = Window()
    try:
        for item in judged:
            window.add(item)
            if len(window) >= settings.window_documents or window.size >= settings.window_bytes:
                full, window = window, Window()
                yield full
    except Exception:
        if len(window):
            yield window
        raise
    if len(window):
        yield window


def _cut_in_blocks(
    judged: Iterator[Judged], settings: Settings, mode: ChunkMode, pool: CutterPool
) -> Iterator[Judged]:
    for block in _blocks(judged, _BLOCK_DOCUMENTS * pool.processes, settings.window_bytes):
        accepted = [(item, mode) for item in block if isinstance(item, Validated)]
        cut = iter(pool.cut_by_function(accepted))
        for item in block:
            yield next(cut) if isinstance(item, Validated) else item


def _blocks(judged: Iterator[Judged], most: int, most_bytes: int) -> Iterator[list[Judged]]:
    """Neighbours in a stream; if it raises, what was read of it comes first."""
    block: list[Judged] = []
    size = 0
    try:
        for item in judged:
            block.append(item)
            size += item.size if isinstance(item, Validated) else 0
            if len(block) >= most or size >= most_bytes:
                full, block, size = block, [], 0
                yield full
    except Exception:
        yield block
        raise
    yield block
