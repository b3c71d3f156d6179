"""Readers of a view see nothing but what is live; searches with a filter use an index for it.

Each collection in a transaction of its own: a migration that is cut off goes on where it was.
"""

from __future__ import annotations

from pathlib import Path

from alembic import op

from embedfleet_schema.database import LOCK_SPACE
from embedfleet_schema.statements import Statements

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

BEFORE = (
    "create_hide_drafts",
    "create_grant_view",
    "create_grant_relations",
    "create_relations",
    "create_expected_rows",
    "create_compared",
    "close_to_others",
    "create_hide",
)


def upgrade() -> None:
    statements = Statements(Path(__file__).with_suffix(".sql").read_text())

    def text(name: str) -> str:
        return statements[name].as_string(None)

    for name in BEFORE:
        op.execute(text(name))
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        for (number,) in connection.exec_driver_sql(text("collections")).fetchall():
            values = {"number": number, "lock_space": LOCK_SPACE}
            connection.exec_driver_sql(text("hide"), values)
    op.execute(text("drop_hide"))
