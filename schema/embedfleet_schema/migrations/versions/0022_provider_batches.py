"""What is filed with a provider's batch API is a provider batch, and how a text is delivered has a
column of that name: `lane` is free for who goes first.

Names change in one transaction, with the revision: a program of before says at its next statement
that it is too old. What would read a long table under that lock is done before it, while others
read on, and may be done again; the checks are validated by the next migration.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

from alembic import op
from psycopg import errors
from sqlalchemy.exc import OperationalError

from embedfleet_schema.statements import Statements

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

BEFORE = ("index_unfiled", "index_filed")
# Who waits for a table makes all others wait behind. And in less than PostgreSQL's
# deadlock_timeout: no transaction that has one of the tables and wants another is given up for us.
LOCK_TIMEOUT_MS = 800
PAUSE_S = 0.5


def upgrade() -> None:
    statements = Statements(Path(__file__).with_suffix(".sql").read_text())
    texts = {name: statement.as_string(None) for name, statement in statements.items()}
    with op.get_context().autocommit_block():
        for name in BEFORE:
            op.execute(texts.pop(name))
    _lock(texts.pop("lock"))
    for text in texts.values():
        op.execute(text)


def _lock(text: str) -> None:
    """Have all tables at once, trying for as long as a statement may wait for a lock."""
    connection = op.get_bind()
    sql = "SELECT extract(epoch FROM current_setting('lock_timeout')::interval)::float8"
    end = time.monotonic() + connection.exec_driver_sql(sql).scalar_one()
    while True:
        try:
            with connection.begin_nested():
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
                connection.exec_driver_sql(text)
        except OperationalError as error:
            refused = (errors.LockNotAvailable, errors.DeadlockDetected)
            if not isinstance(error.orig, refused) or time.monotonic() > end:
                raise
            time.sleep(random.uniform(0.5, 1.0) * PAUSE_S)  # noqa: S311
        else:
            return
