"""A vector does not say which batch made it: batches are removed an hour after they end.

Each collection in a transaction of its own: a migration that is cut off goes on where it was.
"""

from __future__ import annotations

from pathlib import Path

from alembic import op
from psycopg import sql

from embedfleet_schema.statements import Statements

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    statements = Statements(Path(__file__).with_suffix(".sql").read_text())
    op.execute(statements["create_tables"].as_string(None))
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        collections = statements["collections"].as_string(None)
        for collection_id, space_id in connection.exec_driver_sql(collections).fetchall():
            vectors = sql.Identifier(f"_vectors_{collection_id}_{space_id}")
            narrow = statements["narrow"].format(vectors=vectors)
            connection.exec_driver_sql(narrow.as_string(None))
