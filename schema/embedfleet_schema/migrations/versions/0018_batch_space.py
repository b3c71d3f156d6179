"""The space of a batch in a column of its own: a claim beside some spaces, a pause of one and a
file of the lane find their batches by it, however many collections share the space. And indexes by
which the collections of a space and the jobs of a collection are found among many.

The column is filled a page at a time: a migration that is cut off goes on where it was.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import sqlalchemy as sa
from alembic import op

from embedfleet_schema.statements import Statements

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

PAGE = 10_000

_CLAIMED = "state = 'pending' AND lane = 'live'"
_FILED = "state = 'pending' AND lane = 'batch'"
_ORDER = ["priority", "run_after", "id"]


def upgrade() -> None:
    statements = Statements(Path(__file__).with_suffix(".sql").read_text())
    texts = {name: statement.as_string(None) for name, statement in statements.items()}
    op.execute(texts["add_column"])
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        (newest,) = connection.execute(sa.text("SELECT max(id) FROM embedfleet.batch")).one()
        for after, upto in pairwise(range(0, (newest or 0) + PAGE, PAGE)):
            connection.execute(sa.text(texts["fill_page"]), {"after": after, "upto": upto})
    for name in ("lock_batches", "fill_rest", "need_space"):
        op.execute(texts[name])
    _index("ix_batch_claim_beside", ["space_id", "queue", *_ORDER], _CLAIMED)
    _index("ix_batch_file", ["space_id", *_ORDER], _FILED)
    _index("ix_batch_held", ["space_id", "job_id"], "state = 'held'")
    op.create_index(
        "ix_collection_space_id_id", "collection", ["space_id", "id"], schema="embedfleet"
    )
    op.create_index("ix_job_collection_id", "job", ["collection_id"], schema="embedfleet")


def _index(name: str, columns: list[str], condition: str) -> None:
    op.drop_index(name, "batch", schema="embedfleet")
    op.create_index(
        name, "batch", columns, schema="embedfleet", postgresql_where=sa.text(condition)
    )
