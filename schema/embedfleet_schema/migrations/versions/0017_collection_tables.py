"""Documents, chunks and texts in tables of their collection: whoever reads one collection reads
nothing of another; and texts by number, so that only their hashes are written in random order.
"""

from __future__ import annotations

from pathlib import Path

from alembic import op

from embedfleet_schema.statements import Statements

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for statement in Statements(Path(__file__).with_suffix(".sql").read_text()).values():
        op.execute(statement.as_string(None))
