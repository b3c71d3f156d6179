"""The batch lane: jobs that are embedded by a provider's batch API, and the files given to it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "job",
        sa.Column("lane", sa.Text(), server_default=sa.text("'live'"), nullable=False),
        schema="embedfleet",
    )
    op.create_check_constraint(
        op.f("ck_job_lane"), "job", "lane IN ('live', 'batch')", schema="embedfleet"
    )
    _files()
    op.add_column(
        "batch", sa.Column("lane_file_id", sa.BigInteger(), nullable=True), schema="embedfleet"
    )
    op.create_foreign_key(
        op.f("fk_batch_lane_file_id"),
        "batch",
        "lane_file",
        ["lane_file_id"],
        ["id"],
        source_schema="embedfleet",
        referent_schema="embedfleet",
    )
    op.create_index(
        "ix_batch_lane_file_id",
        "batch",
        ["lane_file_id"],
        unique=False,
        schema="embedfleet",
        postgresql_where=sa.text("lane_file_id IS NOT NULL"),
    )


def _files() -> None:
    now = sa.text("now()")
    op.create_table(
        "lane_file",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("space_id", sa.BigInteger(), nullable=False),
        sa.Column("token", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("input_file_id", sa.Text(), nullable=True),
        sa.Column("batch_id", sa.Text(), nullable=True),
        sa.Column("requests", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("tokens", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=now, nullable=False),
        sa.Column("filed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("checked_at", sa.DateTime(timezone=True), server_default=now, nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("token_limit", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "state IN ('filing', 'filed', 'done', 'failed')", name=op.f("ck_lane_file_state")
        ),
        sa.ForeignKeyConstraint(
            ["space_id"], ["embedfleet.space.id"], name=op.f("fk_lane_file_space_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lane_file")),
        schema="embedfleet",
    )
    op.create_index(
        "ix_lane_file_space_id_state",
        "lane_file",
        ["space_id", "state"],
        unique=False,
        schema="embedfleet",
    )
