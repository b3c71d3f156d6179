"""The lane of a batch in a column of its own: its queue had told it, which is that of its
collection now.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_CLAIMED = sa.text("state = 'pending' AND lane = 'live'")
_FILED = sa.text("state = 'pending' AND lane = 'batch'")
_ORDER = ["priority", "run_after", "id"]


def upgrade() -> None:
    op.add_column(
        "batch",
        sa.Column("lane", sa.Text(), server_default=sa.text("'live'"), nullable=False),
        schema="embedfleet",
    )
    op.execute(
        """
        UPDATE embedfleet.batch AS b
        SET lane = 'batch', queue = c.queue
        FROM embedfleet.collection AS c
        WHERE c.id = b.collection_id AND b.queue = 'lane'
        """
    )
    op.create_check_constraint(
        op.f("ck_batch_lane"), "batch", "lane IN ('live', 'batch')", schema="embedfleet"
    )
    _index("ix_batch_claim", ["queue", *_ORDER])
    _index("ix_batch_claim_beside", ["collection_id", "queue", *_ORDER])
    op.create_index("ix_batch_file", "batch", _ORDER, schema="embedfleet", postgresql_where=_FILED)


def _index(name: str, columns: list[str]) -> None:
    op.drop_index(name, "batch", schema="embedfleet")
    op.create_index(name, "batch", columns, schema="embedfleet", postgresql_where=_CLAIMED)
