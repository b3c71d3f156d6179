"""A view of where job and space stand: whether what waits of a job may run."""

from __future__ import annotations

from pathlib import Path

from alembic import op

from embedfleet_schema.statements import Statements

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for statement in Statements(Path(__file__).with_suffix(".sql").read_text()).values():
        op.execute(statement.as_string(None))
