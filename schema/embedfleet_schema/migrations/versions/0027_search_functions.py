"""Search is a function of SQL, with one language for filters."""

from __future__ import annotations

from pathlib import Path

from alembic import op
from psycopg import sql

from embedfleet_schema.statements import Statements

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

# In this order, by the file that they are in.
FUNCTIONS = {
    "search_functions": (
        "create_instant",
        "create_filter_keys",
        "create_filter_comparison",
        "create_filter_plain",
        "create_filter_test",
        "create_filter_condition",
        "create_expected_rows",
        "create_compared",
        "create_space_of",
        "create_set_scan",
        "create_restore_scan",
        "create_search",
    ),
    "related": (
        "create_nearest_documents",
        "create_similar",
        "create_neighbours",
        "create_diverse",
        "create_near_texts",
        "create_clusters",
        "create_duplicates",
    ),
    "hybrid": (
        "create_text_language",
        "create_matched",
        "create_matched_by_owner",
        "create_hybrid_search",
        "close_to_others",
    ),
}


def upgrade() -> None:
    for file, names in FUNCTIONS.items():
        statements = Statements(Path(__file__).with_name(f"{revision}_{file}.sql").read_text())
        if file == "search_functions":
            home = op.get_bind().exec_driver_sql(statements["home"].as_string(None)).scalar_one()
            vector = sql.Identifier(home, "vector").as_string(None)
        for name in names:
            # The rest of the text has braces of its own.
            op.execute(statements[name].as_string(None).replace("{vector}", vector))
