"""Alembic's entry: the connection that `embedfleet migrate` passes, else one from the settings."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from embedfleet_schema.migrate import prepared
from embedfleet_schema.roles import renew_grants
from embedfleet_schema.settings import load_settings
from embedfleet_schema.tables.models import SCHEMA, Base


def _ours(name: str | None, kind: str, _parents: object) -> bool:
    """Tables of a collection are made with it, outside of the migrations."""
    if kind == "schema":
        return name == SCHEMA
    return not (kind == "table" and name is not None and name.startswith("_"))


def _run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        version_table_schema=SCHEMA,
        include_schemas=True,
        include_name=_ours,
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    _run(given)
else:
    url = load_settings().direct_database
    with prepared(url) as own:
        _run(own)
    renew_grants(url)
