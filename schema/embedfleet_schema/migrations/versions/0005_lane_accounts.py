"""Whose account a lane's file was filed with: another account does not know it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("lane_file", sa.Column("account", sa.Text(), nullable=True), schema="embedfleet")
