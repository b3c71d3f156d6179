"""What is filed with a provider's batch API is a provider batch, and how a text is delivered has a
column of that name: `lane` is free for who goes first.

Names change in one transaction, with the revision: a program of before says at its next statement
that it is too old. What would read a long table under that lock is done before it, while others
read on, and may be done again; the checks are validated by the next migration.
"""

from __future__ import annotations

from pathlib import Path

from alembic import op

from embedfleet_schema.statements import Statements

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

BEFORE = ("index_unfiled", "index_filed")


def upgrade() -> None:
    statements = Statements(Path(__file__).with_suffix(".sql").read_text())
    texts = {name: statement.as_string(None) for name, statement in statements.items()}
    with op.get_context().autocommit_block():
        for name in BEFORE:
            op.execute(texts.pop(name))
    for text in texts.values():
        op.execute(text)
