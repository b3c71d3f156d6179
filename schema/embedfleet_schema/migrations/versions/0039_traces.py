"""Jobs and batches carry the trace that they belong to."""

from __future__ import annotations

from pathlib import Path

from alembic import op

from embedfleet_schema.statements import Statements

revision = "0039"
down_revision = "0037"
branch_labels = None
depends_on = None


def upgrade() -> None:
    statements = Statements(Path(__file__).with_suffix(".sql").read_text())
    for name in statements:
        op.execute(statements[name].as_string(None))
