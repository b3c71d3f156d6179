"""A worker says in its row why it claims nothing: a batch cannot, where the disk is full."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("worker", sa.Column("reason", sa.Text()), schema="embedfleet")
