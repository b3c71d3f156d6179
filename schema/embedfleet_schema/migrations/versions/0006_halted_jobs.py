"""An index of the jobs that are paused or cancelled, which every sweep looks through."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_job_halted",
        "job",
        ["id"],
        unique=False,
        schema="embedfleet",
        postgresql_where=sa.text("paused_at IS NOT NULL OR cancelled_at IS NOT NULL"),
    )
