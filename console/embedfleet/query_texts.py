"""Whether a query says something to its model: else it would find anything, and look sure of it."""

from __future__ import annotations

from embedfleet_schema.errors import ExtraMissing, ModelNotFound, UnreadableQuery
from embedfleet_schema.types import CollectionInfo
from embedfleet_schema.visible_text import NOTHING_VISIBLE, has_text

SHOWN = 60


def check_visible(text: str) -> None:
    """Raise UnreadableQuery where nothing can be seen in a query."""
    if not has_text(text):
        raise UnreadableQuery(query=text[:SHOWN], reason=NOTHING_VISIBLE)


def check_read(collection: CollectionInfo, text: str) -> None:
    """Raise UnreadableQuery where the model of a collection has no tokens for a query."""
    from embedfleet_producer.tokens import counter_for
    from embedfleet_schema.unreadable import UNREADABLE_SHARE, unread_reason, unread_share

    try:
        counter = counter_for(collection.space, collection.chunking)
    except (ModelNotFound, ExtraMissing):
        return  # only its tokenizer is away, or who embeds the query says what is missing
    (reading,) = counter.read([text])
    if reading.tokens and not reading.unknown:
        return
    (unread,) = counter.unread([text])
    if unread_share(text, reading.tokens, unread) >= UNREADABLE_SHARE:
        raise UnreadableQuery(query=text[:SHOWN], reason=unread_reason(collection.space.name))
