"""Promotion: texts that wait in the bulk lane go to that of an interactive job that wants them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from psycopg import Connection

from embedfleet_schema.statements import load
from embedfleet_schema.store import shares, transitions
from embedfleet_schema.store.shares import Line
from embedfleet_schema.turns import PRIORITIES
from embedfleet_schema.types import CollectionInfo

_SQL = load("promotion")


class Awaited(NamedTuple):
    """A text that waits in a batch."""

    text_id: int
    batch_id: int
    tokens: int


class Promoted(NamedTuple):
    """A batch that is to go to another lane."""

    id: int
    tokens: int


def separate(
    conn: Connection[Any], collection: CollectionInfo, awaited: Sequence[Awaited], priority: int
) -> tuple[dict[int, int], list[Promoted]]:
    """Give texts that wait in batches of a later lane batches of their own, which `promote` brings
    to the lane.

    Batches that somebody has claimed, or that wait in an earlier lane, stay as they are. The
    caller holds all of them (`registry`), and calls this before it locks texts or documents.

    Returns:
        By text the batch that it waits in now, and the batches that are to be promoted.
    """
    if not awaited or priority == PRIORITIES["bulk"]:
        return {}, []
    wanted: defaultdict[int, dict[int, int]] = defaultdict(dict)
    for each in awaited:
        wanted[each.batch_id][each.text_id] = each.tokens
    values = {"ids": list(wanted), "priority": priority}
    moved: dict[int, int] = {}
    promoted: list[Promoted] = []
    for batch_id, state, text_ids in conn.execute(_SQL["to_promote"], values).fetchall():
        tokens = wanted[batch_id]
        ours = [text_id for text_id in text_ids if text_id in tokens]
        total = sum(tokens[text_id] for text_id in ours)
        made: int | None = batch_id
        if 0 < len(ours) < len(text_ids):
            made = transitions.carve(conn, collection, batch_id, ours, tokens=total, target=state)
        if ours and made is not None:
            moved |= dict.fromkeys(ours, made)
            promoted.append(Promoted(made, total))
    return moved, promoted


def promote(conn: Connection[Any], line: Line, batches: Sequence[Promoted]) -> None:
    """Put batches into a line, charged to its tenant. As `shares.reserve`, at the end."""
    if not batches:
        return
    tags = shares.reserve(conn, line, [each.tokens for each in batches])
    values = {"ids": [each.id for each in batches], "start_tags": tags, "priority": line.priority}
    conn.execute(_SQL["promote"], values)
