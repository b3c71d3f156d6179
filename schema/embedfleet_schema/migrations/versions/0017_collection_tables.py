"""Documents, chunks and texts in tables of their collection: whoever reads one collection reads
nothing of another; and texts by number, so that only their hashes are written in random order.

Each collection in a transaction of its own: a migration that is cut off goes on where it was.
"""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path

import sqlalchemy as sa
from alembic import op

from embedfleet_schema.statements import Statements

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

# The last of those that come before the collections.
LAST = "create_move"


def upgrade() -> None:
    statements = Statements(Path(__file__).with_suffix(".sql").read_text())
    before = [*takewhile(lambda name: name != LAST, statements), LAST]
    for name in before:
        op.execute(statements[name].as_string(None))
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        collections = sa.text("SELECT id FROM embedfleet.collection ORDER BY id")
        for (number,) in connection.execute(collections).fetchall():
            move = sa.text("SELECT embedfleet.move_collection(:number)")
            connection.execute(move, {"number": number})
    for name in list(statements)[len(before) :]:
        op.execute(statements[name].as_string(None))
