"""Where a document came from: a second source does not replace it without being told to, and what
is wrong in a source is forgotten when it is read again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("document", "failure"):
        op.add_column(table, sa.Column("source", sa.Text(), nullable=True), schema="embedfleet")
