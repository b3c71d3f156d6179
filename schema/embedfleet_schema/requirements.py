"""What we take for granted of a server and of a database; `migrate` and `doctor` ask for it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from psycopg import Connection
from psycopg.rows import dict_row

from embedfleet_schema.database import Row
from embedfleet_schema.statements import load

_SQL = load("requirements")

LEAST_SERVER = 150_000
LEAST_VECTOR = (0, 8)
# A dump locks every table at once. It is not alone, and has to be possible before it is needed: of
# the locks that there are, tables may be so many.
SHARE_OF_LOCKS = 0.5


@dataclass(frozen=True, slots=True)
class Unmet:
    """Something that is not as it should be. Without `for_migrate` the fleet works all the same."""

    found: str
    advice: str
    for_migrate: bool = True
    code: str = "DATABASE_UNSUITABLE"


class Versions(NamedTuple):
    """Of the server, and of pgvector: in this database, and as the server offers it."""

    server: str
    installed: str | None
    offered: str | None


def versions(conn: Connection[Any]) -> Versions:
    [row] = conn.execute(_SQL["versions"])
    return Versions(*row)


def pgvector(conn: Connection[Any]) -> str | None:
    """The version of pgvector in this database."""
    row = conn.execute(_SQL["pgvector"]).fetchone()
    return None if row is None else str(row[0])


def unmet(conn: Connection[Any]) -> list[Unmet]:
    """What is not as it should be, the worst first."""
    with conn.cursor(row_factory=dict_row) as cursor:
        facts = cursor.execute(_SQL["facts"]).fetchone()
    return [] if facts is None else judged(facts)


def judged(facts: Row) -> list[Unmet]:
    """What of the row of `facts` is not as it should be."""
    return [*_refused(facts), *_advised(facts)]


def _refused(facts: Row) -> Iterator[Unmet]:
    if facts["version_number"] < LEAST_SERVER:
        yield Unmet(
            f"PostgreSQL {facts['version']} is too old", "upgrade the server to 15 or newer"
        )
    if facts["encoding"] != "UTF8":
        advice = (
            "texts of every language need CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
        )
        yield Unmet(f"the database's encoding is {facts['encoding']}", advice)
    if facts["is_replica"]:
        advice = (
            "name the primary, or add target_session_attrs=read-write to a URL of several hosts"
        )
        yield Unmet("this is a read replica", advice)
    elif facts["is_read_only"]:
        advice = "ALTER ROLE or DATABASE ... RESET default_transaction_read_only"
        yield Unmet("transactions are read-only by default here", advice)
    installed = facts["vector_version"]
    if installed is not None and _numbers(installed) < LEAST_VECTOR:
        advice = "upgrade it on the server, then: ALTER EXTENSION vector UPDATE"
        yield Unmet(f"pgvector {installed} is older than 0.8", advice, code="PGVECTOR_OLD")


def _advised(facts: Row) -> Iterator[Unmet]:
    if facts["commits_late"]:
        advice = "set it to on: otherwise a crash of the server loses what was just stored"
        found = "synchronous_commit is off"
        yield Unmet(found, advice, for_migrate=False, code="COMMITS_LATE")
    if facts["vector_is_open"]:
        schema = facts["vector_schema"]
        advice = f"unless you trust every role: REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC"
        found = f"every role may create objects in schema {schema}, where pgvector is"
        yield Unmet(found, advice, for_migrate=False, code="SCHEMA_OPEN")
    tables, transactions = facts["tables"], facts["transactions"]
    locks = facts["locks_per_transaction"] * transactions
    if tables > SHARE_OF_LOCKS * locks:
        needed = math.ceil(tables / SHARE_OF_LOCKS / transactions)
        found = f"pg_dump needs {tables} locks at once, and the server has {locks}"
        advice = f"set max_locks_per_transaction to {needed} and restart the server"
        yield Unmet(found, advice, for_migrate=False, code="LOCKS_SHORT")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
