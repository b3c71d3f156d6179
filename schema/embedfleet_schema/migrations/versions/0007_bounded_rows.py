"""Bounds on ids and on the cache of queries; functions that look nowhere but in the catalog."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

FUNCTIONS = ("create_relations(bigint)", "grant_relations(text, text)")
KEY = "octet_length(sha256) = 32"
EMBEDDING = "octet_length(embedding) BETWEEN 4 AND 64000 AND octet_length(embedding) % 4 = 0"


def upgrade() -> None:
    for function in FUNCTIONS:
        op.execute(f"ALTER FUNCTION embedfleet.{function} SET search_path = pg_catalog, pg_temp")
    # A cache: what does not fit is asked for again. The lock is what the constraints need anyway,
    # and nobody puts a row in between.
    op.execute("LOCK TABLE embedfleet.query_vector IN ACCESS EXCLUSIVE MODE")
    op.execute(f"DELETE FROM embedfleet.query_vector WHERE NOT ({KEY} AND {EMBEDDING})")  # noqa: S608
    op.create_check_constraint("sha256", "query_vector", KEY, schema="embedfleet")
    op.create_check_constraint("embedding", "query_vector", EMBEDDING, schema="embedfleet")
    op.create_check_constraint(
        "id", "collection", "id BETWEEN 1 AND 2147483647", schema="embedfleet"
    )
