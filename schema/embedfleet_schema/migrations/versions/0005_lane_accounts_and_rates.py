"""Whose account a lane's file was filed with, and an index for the rate of a long job."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("lane_file", sa.Column("account", sa.Text(), nullable=True), schema="embedfleet")
    op.create_index(
        "ix_batch_job_id_finished_at",
        "batch",
        ["job_id", "finished_at"],
        unique=False,
        schema="embedfleet",
        postgresql_where=sa.text("state = 'done'"),
    )
