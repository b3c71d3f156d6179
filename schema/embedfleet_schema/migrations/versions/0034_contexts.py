"""A text may have a context, which is embedded before it, and a collection a template for that.

Each collection in a transaction of its own: a migration that is cut off goes on where it was.
"""

from __future__ import annotations

from pathlib import Path

from alembic import op

from embedfleet_schema.database import LOCK_SPACE
from embedfleet_schema.statements import Statements

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None

BEFORE = (
    "add_templates",
    "allow_jobs",
    "create_tables",
    "create_view_of",
    "create_grant_view",
    "create_add_context",
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
            connection.exec_driver_sql(text("add_context"), values)
    op.execute(text("drop_add_context"))
