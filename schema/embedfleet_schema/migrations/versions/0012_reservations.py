"""What batches and files of the lane reserve of a budget, and what may have been spent."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("batch", sa.Column("reserved_usd", sa.Numeric()), schema="embedfleet")
    op.add_column(
        "job",
        sa.Column("unsettled_usd", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        schema="embedfleet",
    )
    op.add_column("lane_file", sa.Column("reserved", JSONB()), schema="embedfleet")
    op.add_column("lane_file", sa.Column("price", sa.Numeric()), schema="embedfleet")
