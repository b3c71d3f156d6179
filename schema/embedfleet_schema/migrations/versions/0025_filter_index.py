"""New collections get an index on metadata. A worker says in its row why it claims nothing: on a
full disk a batch cannot, see the model. A column and an index get the glossary's words.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import op

from embedfleet_schema.statements import Statements

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("worker", sa.Column("reason", sa.Text()), schema="embedfleet")
    statements = Statements(Path(__file__).with_suffix(".sql").read_text())
    for name in statements:
        op.execute(statements[name].as_string(None))
