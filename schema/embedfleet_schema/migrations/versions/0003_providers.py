"""What providers with an API need: pauses of spaces, budgets, limits, usage, parts of batches."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _columns()
    _limits()
    _usage()
    _query_vectors()
    # Held for as long as the pending batches are read: seconds, however long the backlog is.
    op.create_index(
        "ix_batch_claim_beside",
        "batch",
        ["collection_id", "queue", "priority", "run_after", "id"],
        unique=False,
        schema="embedfleet",
        postgresql_where=sa.text("state = 'pending'"),
    )


def _columns() -> None:
    for column in (
        sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("pause_code", sa.Text(), nullable=True),
        sa.Column("pause_reason", sa.Text(), nullable=True),
    ):
        op.add_column("space", column, schema="embedfleet")
    op.add_column("job", sa.Column("budget_usd", sa.Numeric(), nullable=True), schema="embedfleet")
    op.add_column("job", sa.Column("pause_reason", sa.Text(), nullable=True), schema="embedfleet")
    op.create_check_constraint(
        op.f("ck_job_budget_usd"), "job", "budget_usd > 0", schema="embedfleet"
    )
    op.add_column(
        "batch",
        sa.Column("stored", sa.Integer(), server_default=sa.text("0"), nullable=False),
        schema="embedfleet",
    )


def _limits() -> None:
    op.create_table(
        "rate_limit",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("dimension", sa.Text(), nullable=False),
        sa.Column("amount", sa.Double(), nullable=False),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint("amount > 0", name=op.f("ck_rate_limit_amount")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rate_limit")),
        sa.UniqueConstraint(
            "provider",
            "account",
            "name",
            "dimension",
            name=op.f("uq_rate_limit_provider_account_name_dimension"),
        ),
        schema="embedfleet",
    )
    op.create_table(
        "limit_group",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("provider", "model", name=op.f("pk_limit_group")),
        schema="embedfleet",
    )


def _usage() -> None:
    op.create_table(
        "usage",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("space_id", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=True),
        sa.Column("worker_id", sa.Uuid(), nullable=True),
        sa.Column("requests", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("texts", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("tokens", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("usd", sa.Numeric(), nullable=True),
        sa.ForeignKeyConstraint(
            ["space_id"], ["embedfleet.space.id"], name=op.f("fk_usage_space_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_usage")),
        sa.UniqueConstraint(
            "day",
            "space_id",
            "job_id",
            "worker_id",
            name=op.f("uq_usage_day_space_id_job_id_worker_id"),
            postgresql_nulls_not_distinct=True,
        ),
        schema="embedfleet",
    )
    op.create_index(op.f("ix_usage_job_id"), "usage", ["job_id"], unique=False, schema="embedfleet")


def _query_vectors() -> None:
    op.create_table(
        "query_vector",
        sa.Column("space_id", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("embedding", sa.LargeBinary(), nullable=False),
        sa.Column(
            "used_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.ForeignKeyConstraint(
            ["space_id"],
            ["embedfleet.space.id"],
            name=op.f("fk_query_vector_space_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("space_id", "sha256", name=op.f("pk_query_vector")),
        schema="embedfleet",
        prefixes=["UNLOGGED"],
    )
