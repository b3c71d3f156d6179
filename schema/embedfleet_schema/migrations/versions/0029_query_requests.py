"""The vector of a text from plain SQL: a request that a worker answers.

The cache of query vectors holds them as vectors, so that SQL can read them. It is emptied for that.
"""

from __future__ import annotations

from pathlib import Path

from alembic import op
from psycopg import sql

from embedfleet_schema.statements import Statements

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

IN_ORDER = (
    "store_vectors",
    "create_request",
    "index_open",
    "create_limit",
    "set_limit",
    "create_rate",
    "create_ask",
    "create_answer",
    "create_commit_refusal",
    "create_embed",
    "close_to_others",
)


def upgrade() -> None:
    statements = Statements(Path(__file__).with_suffix(".sql").read_text())
    home = op.get_bind().exec_driver_sql(statements["home"].as_string(None)).scalar_one()
    names = {
        "{vector}": sql.Identifier(home, "vector").as_string(None),
        "{vector_dims}": sql.Identifier(home, "vector_dims").as_string(None),
    }
    for name in IN_ORDER:
        text = statements[name].as_string(None)
        for placeholder, identifier in names.items():
            text = text.replace(placeholder, identifier)
        op.execute(text)
