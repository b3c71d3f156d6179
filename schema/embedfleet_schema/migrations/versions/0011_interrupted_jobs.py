"""Jobs whose producer stopped before its end, and failures whose text another job tries anew."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A producer of an older version does not say that it lives: it counts as alive for a day.
    op.add_column(
        "job",
        sa.Column(
            "loading_until",
            sa.DateTime(timezone=True),
            server_default=sa.text("(now() + '1 day'::interval)"),
            nullable=False,
        ),
        schema="embedfleet",
    )
    op.add_column(
        "job",
        sa.Column("interrupted_at", sa.DateTime(timezone=True), nullable=True),
        schema="embedfleet",
    )
    op.add_column(
        "failure", sa.Column("retried_by", sa.BigInteger(), nullable=True), schema="embedfleet"
    )
