"""The database's own defaults for scans of an HNSW index, for those who write plain SQL.

By pgvector's, a scan gives 40 rows at the most, whatever the LIMIT. Our own searches set what they
need by themselves.
"""

from __future__ import annotations

import psycopg
from psycopg import sql

from embedfleet_schema.database import Database
from embedfleet_schema.database_errors import NotPermitted, PgvectorMissing
from embedfleet_schema.session import brief
from embedfleet_schema.statements import load

_SQL = load("scan_defaults")

SCAN_DEFAULTS = {"hnsw.iterative_scan": "relaxed_order", "hnsw.ef_search": "100"}


def set_defaults(url: str) -> None:
    """Let iterative scans be the default of new sessions in the database at `url`.

    Raises:
        NotPermitted: the user does not own the database.
        PgvectorMissing: the extension is not there.
    """
    db = Database(url)
    with db.connect() as conn:
        home = conn.execute(_SQL["home"]).fetchone()
        if home is None:
            raise PgvectorMissing(url=db.name, reason="it is not created in this database")
        conn.execute(_SQL["load"].format(schema=sql.Identifier(home[0])))
        try:
            for name, value in SCAN_DEFAULTS.items():
                parameter = sql.SQL(".").join(map(sql.Identifier, name.split(".")))
                conn.execute(
                    _SQL["set_default"].format(
                        database=sql.Identifier(home[1]), parameter=parameter, value=value
                    )
                )
        except psycopg.errors.InsufficientPrivilege as error:
            raise NotPermitted(url=db.name, reason=brief(error)) from error


def are_set(db: Database) -> bool:
    """Whether a new session scans on until the LIMIT is met."""
    with db.connect(direct=True) as conn:
        row = conn.execute(_SQL["found"]).fetchone()
    return row is not None and row[0] not in (None, "", "off")
