"""Jobs whose batches are held are found without reading their other batches."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_batch_held",
        "batch",
        ["job_id"],
        schema="embedfleet",
        postgresql_where=sa.text("state = 'held'"),
    )
