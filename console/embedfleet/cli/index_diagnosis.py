"""What `doctor` says of indexes: those that would be slow to build, are broken, or have grown."""

from __future__ import annotations

from collections.abc import Iterator

from embedfleet.cli.finding import Fault, Finding
from embedfleet_schema.amounts import quantity
from embedfleet_schema.database import Database
from embedfleet_schema.errors import UsageError
from embedfleet_schema.store import (
    collections,
    filter_index,
    index_memory,
    index_policy,
    vector_index,
)
from embedfleet_schema.store.vector_index import IndexKind
from embedfleet_schema.types import CollectionInfo

# An index grows by a fifth while its pages fill: beyond that, it is what updates and deletes left.
GROWN = 1.5
# A smaller one is read from memory whatever it holds.
LEAST_BYTES = 16_000_000
# Autovacuum comes at a fifth by PostgreSQL's own setting.
MANY_DEAD, LEAST_DEAD = 0.25, 1_000


def indexes(database: Database) -> Iterator[Finding]:
    """By the statistics of the tables, so it costs little."""
    infos = {info.name: info for info in collections.list_all(database)}
    yield from _missing(database, infos)
    for each in vector_index.upkeep(database):
        if each.collection in infos:
            yield from _upkeep(infos[each.collection], each)
    yield from _filters(database)


def _missing(database: Database, infos: dict[str, CollectionInfo]) -> Iterator[Finding]:
    """Collections whose index would be slow to build."""
    most_mb = index_memory.most_mb(database)
    for name, vectors in index_memory.without_index(database).items():
        if name not in infos:
            continue
        space = infos[name].space
        try:
            kind = vector_index.chosen(space)
        except UsageError as error:
            found = f"of {name}: {error}"
            yield Finding("warning", "index", found, code=Fault.INDEX_IMPOSSIBLE)
            continue
        memory = index_memory.build_memory(space, vectors, kind, most_mb=most_mb)
        if not memory.fits:
            found = f"of {name} needs {memory.needed_mb:,} MB of memory for a fast build"
            advice = (
                f"a build uses {memory.taken_mb:,} MB by default; if the server has enough: "
                f"embedfleet index {name} --memory {memory.needed_mb}"
            )
            yield Finding("warning", "index", found, advice, code=Fault.INDEX_MEMORY)
        elif vectors >= index_policy.FEW_VECTORS:
            found = f"{name} has none, so each search compares about {vectors:,} vectors"
            advice = f"embedfleet index {name}"
            yield Finding(
                "warning", "index", found, advice, code=Fault.INDEX_MISSING, collection=name
            )


def _upkeep(info: CollectionInfo, each: vector_index.Upkeep) -> Iterator[Finding]:
    name = info.name
    if not each.valid:
        found = f"{each.name} of {name} is invalid: a build of it was cut off, or goes on"
        advice = f"if none goes on: embedfleet index {name}; it slows each write until then"
        yield Finding("warning", "index", found, advice, code=Fault.INDEX_INVALID, collection=name)
        return
    dead = each.dead / max(1, each.dead + each.live)
    if dead > MANY_DEAD and each.dead >= LEAST_DEAD:
        found = f"{dead:.0%} of the vectors of {name} are dead rows, which each search passes"
        advice = f"VACUUM embedfleet.{info.vectors}"
        yield Finding("warning", "index", found, advice, code=Fault.DEAD_ROWS)
    fresh = index_memory.fresh_bytes(info.space, each.vectors, IndexKind(each.method, each.type))
    if each.bytes > max(LEAST_BYTES, GROWN * fresh):
        found = (
            f"of {name} takes {each.bytes / 1e6:,.0f} MB, a new one about {fresh / 1e6:,.0f} MB:"
            " after many updates or deletes, searches are slower and find less"
        )
        advice = f"embedfleet recall {name} measures that; embedfleet index {name} --rebuild"
        yield Finding("warning", "index", found, advice, code=Fault.INDEX_GROWN)


def _filters(database: Database) -> Iterator[Finding]:
    if missed := filter_index.missed(database):
        first, *others = missed
        more = f"; the same in {quantity(len(others), 'other collection')}" if others else ""
        found = f"each search with a filter reads {first.chunks:,} chunks of {first.name}{more}"
        yield Finding(
            "warning",
            "filters",
            found,
            f"embedfleet index {first.name}",
            code=Fault.FILTER_INDEX_MISSING,
            collection=first.name,
        )
