"""A new version of a document keeps the chunks that it shares with the former one.

Each collection in a transaction of its own: a migration that is cut off goes on where it was.
"""

from __future__ import annotations

from pathlib import Path

from alembic import op

from embedfleet_schema.database import LOCK_SPACE
from embedfleet_schema.statements import Statements

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

BEFORE = (
    "create_tables",
    "create_view_of",
    "create_hide_drafts",
    "create_grant_relations",
    "create_grant_view",
    "create_compared",
    "create_share",
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
            connection.exec_driver_sql(text("share"), values)
    op.execute(text("drop_share"))
