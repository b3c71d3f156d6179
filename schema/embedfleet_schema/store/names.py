"""Names of collections that change: a new name, or two that change places, in one transaction.

A name is more than a row: a view, perhaps a view for another library, a search that was granted,
and the rights of who reads them. All of it stays with the name. A collection that gets a name which
another one had takes over who may read it. The table that a collection follows is not of the name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import Connection, sql

from embedfleet_schema import session
from embedfleet_schema.database import LOCK_SPACE, Database
from embedfleet_schema.database_errors import NameInUse
from embedfleet_schema.errors import BadName
from embedfleet_schema.statements import load
from embedfleet_schema.store import collections, exposed, grants, locks, ownership
from embedfleet_schema.types import CollectionInfo

_SQL = load("names")
_COLLECTIONS = load("collections")

# A view is replaced behind those who read it, and readers who come meanwhile wait: so long at most.
VIEW_WAIT_MS = 300


@dataclass(frozen=True, slots=True)
class Move:
    """A collection, as it is named now, and the name that it gets."""

    collection: CollectionInfo
    name: str

    @property
    def moved(self) -> CollectionInfo:
        return replace(self.collection, name=self.name)


def rename(db: Database, collection: CollectionInfo, name: str) -> CollectionInfo:
    """Give a collection another name; what reads its view goes on to read it.

    Raises:
        BadName: it cannot be one, or is taken.
        CollectionGone, CollectionMoved: it is not what has its name now.
        NotPermitted: the user neither owns the schema nor may act as its owner.
        LockNotAvailable: somebody reads it for long.
    """
    move = Move(collection, name)
    with db.transaction(name_holders=False) as conn:
        assign(conn, db, [move])
    return move.moved


def swap(
    db: Database, one: CollectionInfo, other: CollectionInfo
) -> tuple[CollectionInfo, CollectionInfo]:
    """Let two collections change their names; who may read a name may read what has it now.

    Raises:
        NameInUse: others read a view whose columns would change.
        CollectionGone, CollectionMoved, NotPermitted, LockNotAvailable: as `rename`.
    """
    moves = Move(one, other.name), Move(other, one.name)
    with db.transaction(name_holders=False) as conn:
        assign(conn, db, moves)
    return moves[0].moved, moves[1].moved


def alike(conn: Connection[Any], one: CollectionInfo, other: CollectionInfo) -> bool:
    """Whether their views have the same columns: then one can take the place of the other."""
    kinds = [(each.space.storage, each.space.dimensions) for each in (one, other)]
    columns = conn.execute(_SQL["columns"], {"ids": [one.id, other.id]}).fetchall()
    return kinds[0] == kinds[1] and columns[0] == columns[1]


def dependents(conn: Connection[Any], collection: CollectionInfo) -> list[str]:
    """What reads the view of a collection, or the one that it shows another library."""
    views = [collection.name, *exposed.views(conn, collection)]
    return [what for (what,) in conn.execute(_SQL["dependents"], {"views": views})]


def check_replaceable(
    conn: Connection[Any], collection: CollectionInfo, other: CollectionInfo
) -> None:
    """Raise NameInUse where others read a view that `other` could only replace by a new one."""
    if alike(conn, collection, other):
        return
    found = dependents(conn, collection)
    if found:
        raise NameInUse(name=collection.name, dependents="; ".join(found))


def check_free(conn: Connection[Any], names: Sequence[str]) -> None:
    """Raise BadName unless collections can get these names, which nobody takes until the end of
    the transaction.
    """
    for name in sorted(names):
        collections.check_name(name)
        conn.execute(_COLLECTIONS["serialize"], {"space": LOCK_SPACE, "name": name})
        taken = conn.execute(_COLLECTIONS["name_taken"], {"name": name}).fetchone()
        if taken and taken[0]:
            raise BadName(name=name, reason="the schema embedfleet has a relation of that name")


def assign(conn: Connection[Any], db: Database, moves: Sequence[Move]) -> None:
    """Give collections their new names, some of which others of them had, with all that belongs to
    a name. The transaction owns the collections afterwards, and acts as the owner of the schema.
    """
    before = {move.collection.name: move.collection for move in moves}
    after = {move.name: move.moved for move in moves}
    locks.own_all(conn, [move.collection.id for move in moves])
    for move in moves:
        collections.check_there(conn, move.collection)
    check_free(conn, [name for name in after if name not in before])
    ownership.become_owner(conn)
    for name in before.keys() & after.keys():
        check_replaceable(conn, before[name], after[name])
    conn.execute(locks.WAIT_AT_MOST, {"milliseconds": str(VIEW_WAIT_MS)})
    shown = {name: exposed.views(conn, each) for name, each in before.items()}
    rights = _Rights(conn, before, after)
    conn.execute(_SQL["set_aside"], {"ids": [move.collection.id for move in moves]})
    for move in moves:
        conn.execute(_SQL["set_name"], {"collection_id": move.collection.id, "name": move.name})
    try:
        for move in moves:
            if move.name not in before and move.collection.name not in after:
                _rename(conn, db, move, exposes=bool(shown[move.collection.name]))
            else:
                former = before.get(move.name)
                _show(conn, db, former, move.moved, exposes=bool(shown.get(move.name)))
        renamed = {m.collection.name for m in moves if m.name not in before}
        for name in before.keys() - after.keys():
            if name not in renamed:
                _remove(conn, db, before[name], exposes=bool(shown[name]))
    except psycopg.errors.DependentObjectsStillExist as error:
        name = moves[0].collection.name
        raise NameInUse(name=name, dependents=session.dependents(error)) from error
    rights.give()


def show(conn: Connection[Any], collection: CollectionInfo) -> None:
    """Let the view of a name show the collection that has it, as it is now."""
    values = {"collection_id": collection.id, "space_id": collection.space_id}
    conn.execute(_SQL["show_as"], values | {"view": collection.name})


class _Rights:
    """Who may read the tables below a name: whoever could read those of its former holder."""

    def __init__(
        self,
        conn: Connection[Any],
        before: Mapping[str, CollectionInfo],
        after: Mapping[str, CollectionInfo],
    ) -> None:
        self._conn = conn
        self._statements: list[str] = []
        handed = sorted(before.keys() & after.keys())
        for name in handed:
            for table in after[name].tables:
                self._statements += _listed(conn, "revocations", {"relation": table})
        for name in handed:
            for former, new in zip(before[name].tables, after[name].tables, strict=True):
                self._statements += _granted(conn, former, new)

    def give(self) -> None:
        _run(self._conn, self._statements)


def _show(
    conn: Connection[Any],
    db: Database,
    former: CollectionInfo | None,
    moved: CollectionInfo,
    *,
    exposes: bool,
) -> None:
    """The views and the search of a name for the collection that has it now."""
    names = [moved.name, *([exposed.view_name(moved)] if exposes else [])]
    same = former is None or alike(conn, former, moved)
    given = {name: _granted(conn, name, name, of_view=True) for name in names}
    if not same:
        for name in reversed(names):
            conn.execute(_SQL["drop_view"].format(view=sql.Identifier(name)))
    show(conn, moved)
    if exposes:
        exposed.create(conn, moved)
    if former is None or not same:
        for statements in given.values():
            _run(conn, statements)
    if former is not None:
        _grant_search(conn, db, former, moved)


def _rename(conn: Connection[Any], db: Database, move: Move, *, exposes: bool) -> None:
    """What reads the views goes on to read them under their new names."""
    former, moved = move.collection, move.moved
    pairs = [(former.name, moved.name)]
    if exposes:
        pairs.append((exposed.view_name(former), exposed.view_name(moved)))
    for view, name in pairs:
        named = {"view": sql.Identifier(view), "name": sql.Identifier(name)}
        conn.execute(_SQL["rename_view"].format(**named))
    if _search(conn, former, moved) is not None:
        grants.check_length(moved)
        parts = grants.parts(db, former) | {"name": sql.Identifier(grants.function_name(moved))}
        conn.execute(_SQL["rename_search"].format(**parts))
        grants.define(conn, db, moved)


def _remove(conn: Connection[Any], db: Database, former: CollectionInfo, *, exposes: bool) -> None:
    """What belonged to a name that nothing has any more."""
    if exposes:
        view = sql.Identifier(exposed.view_name(former))
        conn.execute(_SQL["drop_view"].format(view=view))
    conn.execute(_SQL["drop_view"].format(view=sql.Identifier(former.name)))
    grants.remove(conn, db, former, sql.SQL("RESTRICT"))


def _grant_search(
    conn: Connection[Any], db: Database, former: CollectionInfo, moved: CollectionInfo
) -> None:
    """The search that was granted by this name, for the vectors that it has now."""
    found = _search(conn, former, moved, type_=grants.parts(db, moved)["type"])
    if found is None:
        return
    type_, statements = found
    if type_ != moved.space.storage:
        grants.remove(conn, db, former, sql.SQL("RESTRICT"))
    grants.define(conn, db, moved)
    if type_ != moved.space.storage:
        _run(conn, statements)


def _search(
    conn: Connection[Any],
    former: CollectionInfo,
    moved: CollectionInfo,
    type_: sql.Composable | None = None,
) -> tuple[str, list[str]] | None:
    values = {
        "function": grants.function_name(former),
        "to": grants.function_name(moved),
        "type": "" if type_ is None else type_.as_string(conn),
    }
    return conn.execute(_SQL["granted_search"], values).fetchone()


def _granted(conn: Connection[Any], relation: str, to: str, *, of_view: bool = False) -> list[str]:
    return _listed(conn, "grants", {"relation": relation, "to": to, "of_view": of_view})


def _listed(conn: Connection[Any], statement: str, values: Mapping[str, object]) -> list[str]:
    return [each for (each,) in conn.execute(_SQL[statement], values)]


def _run(conn: Connection[Any], statements: Sequence[str]) -> None:
    for statement in statements:
        conn.execute(statement.encode())
