"""How often a worker beats, in its row: who asks whether it lives may be configured otherwise."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "worker",
        sa.Column("heartbeat_seconds", sa.Double(), server_default=sa.text("15"), nullable=False),
        schema="embedfleet",
    )
