"""Functions that make the relations of a collection, so that producers need not own the schema."""

from __future__ import annotations

from pathlib import Path

from alembic import op

from embedfleet_schema.statements import Statements

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for statement in Statements(Path(__file__).with_suffix(".sql").read_text()).values():
        op.execute(statement.as_string(None))
