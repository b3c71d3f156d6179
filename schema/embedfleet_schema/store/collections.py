"""Collections: their row, their tables, their view, their index."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from typing import Any

from psycopg import Connection
from psycopg.errors import SerializationFailure
from psycopg.rows import dict_row

from embedfleet_schema.catalogue.plugins import is_plugin_space
from embedfleet_schema.catalogue.space_lookup import parse_model
from embedfleet_schema.database import LOCK_SPACE, Database, Row
from embedfleet_schema.errors import (
    BadName,
    ChunkingMismatch,
    CollectionGone,
    CollectionMoved,
    ModelMismatch,
    PrecisionMismatch,
    ReuseMismatch,
    TemplateUnfinished,
    UnknownCollection,
)
from embedfleet_schema.statements import load
from embedfleet_schema.store import locks
from embedfleet_schema.types import (
    Chunking,
    CollectionInfo,
    DemandedPrecision,
    Queue,
    Space,
    VectorOptions,
)

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_SQL = load("collections")

ANY_VECTORS = VectorOptions()

# How many names a message gives of those before, and of those after, one that is not there.
NAMED = 10


def check_name(name: str) -> None:
    """Raise BadName unless `name` can be a view in the schema."""
    if not _NAME.fullmatch(name):
        raise BadName(name=name, reason="it becomes a view in PostgreSQL")


def create_or_open(
    db: Database,
    name: str,
    space: Space,
    chunking: Chunking,
    queue: Queue,
    vectors: VectorOptions = ANY_VECTORS,
    *,
    filter_index: bool = True,
) -> CollectionInfo:
    """The collection `name` in `space`, made with its tables and view where it is new, and with an
    index on metadata unless told not to.

    Raises:
        BadName: the name cannot be a view, or is taken by something else.
        ModelMismatch: it exists in another space.
        ChunkingMismatch: it exists and cuts its documents in another way.
        ReuseMismatch: it exists and shares its vectors in another way.
        PrecisionMismatch: it exists and does not demand this precision.
    """
    check_name(name)
    with db.transaction() as conn:
        conn.execute(_SQL["serialize"], {"space": LOCK_SPACE, "name": name})
        known = _list(conn, name=name)
        if known:
            return _same(known[0], space, chunking, vectors)
        taken = conn.execute(_SQL["name_taken"], {"name": name}).fetchone()
        if taken and taken[0]:
            raise BadName(name=name, reason="the schema embedfleet has a relation of that name")
        made = create(conn, name, space, chunking, queue, vectors)
        if filter_index:
            conn.execute(_SQL["create_filter_index"], {"collection_id": made.id})
        return made


def find(db: Database, name: str) -> CollectionInfo:
    """The collection `name`.

    Raises:
        UnknownCollection: with the names that exist, or of many those near it in the alphabet.
    """
    with db.transaction() as conn:
        found = _list(conn, name=name)
        if found:
            return found[0]
        near = conn.execute(_SQL["near"], {"name": name, "most": NAMED}).fetchall()
    others = [other for other, beyond in near if not beyond]
    names = ", ".join([*others, "and more"] if len(others) < len(near) else others)
    known = f"There are: {names}." if names else "There is none yet."
    raise UnknownCollection(name=name, known=known)


def by_id(conn: Connection[Any], collection_id: int) -> CollectionInfo:
    """The collection of a row that was just read.

    Raises:
        UnknownCollection: it was dropped in between.
    """
    found = _list(conn, collection_id=collection_id)
    if not found:
        raise UnknownCollection(name=str(collection_id), known="It was dropped.")
    return found[0]


def check_there(conn: Connection[Any], collection: CollectionInfo) -> None:
    """Raise CollectionGone if it was dropped, whatever has its name now, and CollectionMoved if it
    has another one.
    """
    found = conn.execute(_SQL["name_of"], {"id": collection.id}).fetchone()
    if found is None:
        raise CollectionGone(name=collection.name)
    if found[0] != collection.name:
        raise CollectionMoved(name=collection.name, now=found[0])


def followed(db: Database, collection: CollectionInfo) -> CollectionInfo:
    """What a program means that opened a collection some time ago: what has its name now, if that
    was given to another one; the same one under another name; or what serves in its place since a
    model change.

    Raises:
        CollectionGone: it was dropped.
    """
    with db.transaction() as conn:
        try:
            check_there(conn, collection)
        except CollectionMoved:
            named = _list(conn, name=collection.name)
            return named[0] if named else by_id(conn, collection.id)
        except CollectionGone:
            succeeding = _listed(conn, "succeeding", {"id": collection.id})
            if not succeeding:
                raise
            return succeeding[0]
    return collection


def is_of(collection: CollectionInfo, model: str | None) -> bool:
    """Whether its vectors are of this model, as a person names it; where none is named, of any."""
    space = collection.space
    return model in (None, space.name) or parse_model(model) == (space.provider, space.model)


def check_chunking(collection: CollectionInfo, wanted: Chunking | None) -> None:
    """Raise ChunkingMismatch if it cuts its documents in another way than was asked for."""
    if wanted is not None and not wanted.tokenizer and is_plugin_space(collection.space):
        # The model's own was named when the collection was made.
        wanted = replace(wanted, tokenizer=collection.chunking.tokenizer)
    differences = "" if wanted is None else collection.chunking.differences(wanted)
    if differences:
        raise ChunkingMismatch(name=collection.name, differences=differences)


def check_vectors(collection: CollectionInfo, wanted: VectorOptions) -> None:
    """Raise ReuseMismatch or PrecisionMismatch if it takes other vectors than was asked for."""
    if wanted.reuse not in (None, collection.reuse):
        raise ReuseMismatch(name=collection.name, reuse=collection.reuse, wanted=wanted.reuse)
    if wanted.precision not in (None, collection.precision):
        existing = collection.precision or "any precision"
        raise PrecisionMismatch(name=collection.name, existing=existing, wanted=wanted.precision)


def check_template(conn: Connection[Any], collection: CollectionInfo) -> None:
    """Raise SerializationFailure if its template was changed since it was opened. The caller holds
    its lock, so the template stays.
    """
    row = conn.execute(_SQL["template"], {"id": collection.id}).fetchone()
    if row is not None and row[0] != collection.template:
        raise SerializationFailure("the template of the collection was changed in between")


def change_template(db: Database, collection: CollectionInfo, template: str) -> CollectionInfo:
    """Set the template of a collection; documents may have the former one until the change ends.

    What producers store from now on has the new one. A change that was cut off goes on.

    Raises:
        UnknownCollection: it was dropped.
        TemplateUnfinished: a change to another template was cut off.
    """
    with db.transaction() as conn:
        locks.own(conn, collection.id)
        values = {"id": collection.id, "template": template}
        conn.execute(_SQL["change_template"], values)
        changed = by_id(conn, collection.id)
        if changed.template != template:
            raise TemplateUnfinished(name=changed.name, template=changed.template)
        return changed


def end_template_change(db: Database, collection: CollectionInfo) -> None:
    """All of its documents have its template."""
    with db.transaction() as conn:
        values = {"id": collection.id, "template": collection.template}
        conn.execute(_SQL["end_template_change"], values)


def list_all(db: Database) -> list[CollectionInfo]:
    with db.transaction() as conn:
        return _list(conn)


def newest(db: Database, limit: int) -> list[CollectionInfo]:
    """The newest collections."""
    with db.transaction() as conn:
        return _listed(conn, "newest", {"limit": limit})


def newest_of(
    db: Database, space: Space, limit: int, precision: DemandedPrecision | None
) -> list[CollectionInfo]:
    """The newest collections of a space that let others take their vectors, of those that demand a
    precision if one is given.
    """
    values = {"fingerprint": space.fingerprint, "limit": limit, "precision": precision}
    with db.transaction() as conn:
        return _listed(conn, "of_space", values)


def create(
    conn: Connection[Any],
    name: str,
    space: Space,
    chunking: Chunking,
    queue: Queue,
    vectors: VectorOptions,
) -> CollectionInfo:
    """A new collection under a free name, with its tables and its view."""
    fields = asdict(space) | {"fingerprint": space.fingerprint}
    space_id = _returned(conn, "ensure_space", fields)
    values = asdict(chunking) | {"name": name, "space_id": space_id}
    values |= {"queue": queue, "reuse": vectors.reuse or "space", "precision": vectors.precision}
    collection_id = _returned(conn, "create", values)
    conn.execute(_SQL["create_relations"], {"collection_id": collection_id})
    return by_id(conn, collection_id)


def _returned(conn: Connection[Any], statement: str, values: dict[str, object]) -> int:
    row = conn.execute(_SQL[statement], values).fetchone()
    assert row is not None  # noqa: S101 - INSERT ... RETURNING gives a row or raises
    return int(row[0])


def _same(
    collection: CollectionInfo, space: Space, chunking: Chunking, vectors: VectorOptions
) -> CollectionInfo:
    if not collection.space.takes(space):
        raise ModelMismatch(
            name=collection.name, existing=_described(collection.space), wanted=_described(space)
        )
    check_chunking(collection, chunking)
    check_vectors(collection, vectors)
    return collection


def _described(space: Space) -> str:
    """Enough of a space to tell two of them apart."""
    return f"{space.name} ({space.dimensions} dimensions, {space.storage}, {space.metric})"


def _list(
    conn: Connection[Any], name: str | None = None, collection_id: int | None = None
) -> list[CollectionInfo]:
    which = "named" if name is not None else "all" if collection_id is None else "numbered"
    return _listed(conn, which, {"name": name, "id": collection_id})


def _listed(conn: Connection[Any], which: str, values: dict[str, object]) -> list[CollectionInfo]:
    with conn.cursor(row_factory=dict_row) as cursor:
        cursor.execute(_SQL["list"].format(which=_SQL[which]), values)
        return [_info(row) for row in cursor]


_space_fields = tuple(Space.__dataclass_fields__)


def _info(row: Row) -> CollectionInfo:
    return CollectionInfo(
        id=row["id"],
        name=row["name"],
        space_id=row["space_id"],
        space=Space(**{name: row[name] for name in _space_fields}),
        chunking=Chunking(
            row["chunk_size"],
            row["chunk_overlap"],
            row["chunk_mode"],
            row["tokenizer"],
            row["too_long"],
            row["template"],
        ),
        queue=row["queue"],
        reuse=row["reuse"],
        created_at=row["created_at"],
        former_template=row["former_template"],
        precision=row["precision"],
    )
