"""Counters of collections and jobs, so that nobody sums all rows to show them; and room in the
tables that are updated most.

Each collection in a transaction of its own: a migration that is cut off goes on where it was.
"""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path

import sqlalchemy as sa
from alembic import op
from psycopg import sql

from embedfleet_schema.statements import Statements

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

COUNT = "count"


def upgrade() -> None:
    statements = Statements(Path(__file__).with_suffix(".sql").read_text())
    for name in takewhile(lambda name: name != COUNT, statements):
        op.execute(statements[name].as_string(None))
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        collections = sa.text("SELECT id, space_id FROM embedfleet.collection ORDER BY id")
        for collection_id, space_id in connection.execute(collections).fetchall():
            count = statements[COUNT].format(
                collection_id=sql.Literal(collection_id),
                documents=sql.Identifier(f"_documents_{collection_id}"),
                chunks=sql.Identifier(f"_chunks_{collection_id}"),
                vectors=sql.Identifier(f"_vectors_{collection_id}_{space_id}"),
            )
            connection.exec_driver_sql(count.as_string(None))
