"""Keys of HTTP clients, requests that count once, and many vectors asked for at once."""

from __future__ import annotations

from pathlib import Path

from alembic import op
from psycopg import sql

from embedfleet_schema.statements import Statements

revision = "0041"
down_revision = "0039"
branch_labels = None
depends_on = None


def upgrade() -> None:
    statements = Statements(Path(__file__).with_suffix(".sql").read_text())
    home = op.get_bind().exec_driver_sql(statements["home"].as_string(None)).scalar_one()
    vector = sql.Identifier(home, "vector").as_string(None)
    for name in statements:
        if name != "home":
            op.execute(statements[name].as_string(None).replace("{vector}", vector))
