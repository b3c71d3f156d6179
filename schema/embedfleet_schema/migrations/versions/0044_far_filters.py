"""A filter whose rows lie far from a question finds the nearest of them."""

from __future__ import annotations

from pathlib import Path

from alembic import op
from psycopg import sql

from embedfleet_schema.statements import Statements

revision = "0044"
down_revision = "0041"
branch_labels = None
depends_on = None


def upgrade() -> None:
    statements = Statements(Path(__file__).with_suffix(".sql").read_text())
    home = Statements(Path(__file__).with_name("0027_search_functions.sql").read_text())["home"]
    schema = op.get_bind().exec_driver_sql(home.as_string(None)).scalar_one()
    vector = sql.Identifier(schema, "vector").as_string(None)
    for name in statements:
        # The rest of the text has braces of its own.
        op.execute(statements[name].as_string(None).replace("{vector}", vector))
