"""Each text knows the batch that it waits in, and each job the batches of others that it waits for:
what waits is not queued again.

Each collection in a transaction of its own: a migration that is cut off goes on where it was.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import op

from embedfleet_schema.statements import Statements

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    statements = Statements(Path(__file__).with_suffix(".sql").read_text())
    *before, last = statements
    for name in before:
        op.execute(statements[name].as_string(None))
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        collections = sa.text("SELECT id FROM embedfleet.collection ORDER BY id")
        for (number,) in connection.execute(collections).fetchall():
            point = sa.text("SELECT embedfleet.point_texts(:number)")
            connection.execute(point, {"number": number})
    op.execute(statements[last].as_string(None))
