"""A field of the metadata can be a column of the view, with a type; duplicates are searched for as
far as the collection says.
"""

from __future__ import annotations

from pathlib import Path

from alembic import op

from embedfleet_schema.statements import Statements

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None


def upgrade() -> None:
    statements = Statements(Path(__file__).with_suffix(".sql").read_text())
    for name in statements:
        op.execute(statements[name].as_string(None))
