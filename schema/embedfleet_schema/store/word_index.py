"""The index that finds texts by their words, for hybrid searches."""

from __future__ import annotations

import psycopg
from psycopg import sql

from embedfleet_schema.database import Database
from embedfleet_schema.errors import UsageError
from embedfleet_schema.statements import load
from embedfleet_schema.store import index_builds
from embedfleet_schema.store.filter_index import MEMORY_MB, WORKERS
from embedfleet_schema.types import CollectionInfo

_SQL = load("word_index")

UNKNOWN_LANGUAGE = (psycopg.errors.UndefinedObject, psycopg.errors.InvalidName)


def build(db: Database, collection: CollectionInfo, language: str) -> str | None:
    """Build it without blocking writers; None where there is one of that language.

    One of ours in another language, or that an interrupted build left invalid, is dropped first.

    Raises:
        UsageError: PostgreSQL does not know the language.
    """
    name = f"{collection.texts}_words"
    values = {"collection": collection.name, "index": f"embedfleet.{name}", "language": language}
    try:
        with db.transaction() as conn:
            row = conn.execute(_SQL["found"], values).fetchone()
    except UNKNOWN_LANGUAGE as error:
        raise unknown(db, language) from error
    indexed, ours, wanted = row or (None, False, language)
    if indexed == wanted:
        return None
    create = _SQL["create"].format(
        index=sql.Identifier(name),
        texts=sql.Identifier(collection.texts),
        language=sql.Literal(wanted),
    )
    stale = [name] if ours else []
    with index_builds.alone(db, collection, memory_mb=MEMORY_MB, workers=WORKERS) as conn:
        index_builds.create(conn, collection, create, stale=stale, remains=[name])
    return name


def unknown(db: Database, language: object) -> UsageError:
    """What to say of a language for which PostgreSQL has no configuration."""
    with db.transaction() as conn:
        known = conn.execute(_SQL["languages"]).fetchone()
    reason = f"PostgreSQL does not know the language {language!r}; there are {(known or '')[0]}"
    return UsageError(reason=reason)
