"""What becomes of ready-made chunks that are too long, and how many texts a job refused at once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "collection",
        sa.Column("too_long", sa.Text(), server_default=sa.text("'reject'"), nullable=False),
        schema="embedfleet",
    )
    op.create_check_constraint(
        op.f("ck_collection_too_long"),
        "collection",
        "too_long IN ('reject', 'truncate', 'split')",
        schema="embedfleet",
    )
    op.add_column(
        "job",
        sa.Column("failed", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        schema="embedfleet",
    )
