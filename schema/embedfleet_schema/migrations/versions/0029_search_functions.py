"""Search is a function of SQL, with one language for filters."""

from __future__ import annotations

from pathlib import Path

from alembic import op
from psycopg import sql

from embedfleet_schema.statements import Statements

revision = "0029"
down_revision = "0024"
branch_labels = None
depends_on = None

FILTERS = (
    "create_instant",
    "create_filter_keys",
    "create_filter_comparison",
    "create_filter_test",
    "create_filter_plain",
    "create_filter_condition",
    "create_expected_rows",
    "create_compared",
    "create_space_of",
    "create_set_scan",
    "create_restore_scan",
)
# They take or give vectors.
SEARCHES = ("create_search",)


def upgrade() -> None:
    statements = Statements(Path(__file__).with_suffix(".sql").read_text())
    for name in FILTERS:
        op.execute(statements[name].as_string(None))
    home = op.get_bind().exec_driver_sql(statements["home"].as_string(None)).scalar_one()
    for name in SEARCHES:
        op.execute(statements[name].format(vector=sql.Identifier(home, "vector")).as_string(None))
