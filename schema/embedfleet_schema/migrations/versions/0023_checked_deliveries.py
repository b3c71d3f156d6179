"""The checks of migration 0022, validated without keeping anybody from the tables."""

from __future__ import annotations

from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

TABLES = ("batch", "job", "job_counter")


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for table in TABLES:
            op.execute(f"ALTER TABLE embedfleet.{table} VALIDATE CONSTRAINT ck_{table}_delivery")
