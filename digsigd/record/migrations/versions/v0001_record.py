"""The first form: logs, their entries, and the nodes of their trees."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "log",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("vkey", sa.Text, nullable=False, unique=True),
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("root", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "entry",
        sa.Column("log", sa.Integer, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("leaf", sa.LargeBinary, nullable=False),
        # Of the checkpoint of the tree that ends with this entry.
        sa.Column("signature", sa.LargeBinary, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("time", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("caller", sa.Text, nullable=False),
        sa.Column("machine", sa.Text, nullable=False),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("client_request", sa.Text, nullable=False),
        sa.Column("blob", sa.Text, nullable=False),
        sa.Column("artifact", sa.Text, nullable=False),
        # None once it is pruned.
        sa.Column("data", sa.LargeBinary),
        sa.PrimaryKeyConstraint("log", "position"),
    )
    op.create_index("entry_id", "entry", ["id"], unique=True)
    op.create_index("entry_blob", "entry", ["blob"], sqlite_where=sa.text("blob <> ''"),
                    postgresql_where=sa.text("blob <> ''"))  # fmt: skip
    op.create_table(
        "node",
        sa.Column("log", sa.Integer, nullable=False),
        sa.Column("level", sa.Integer, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("log", "level", "position"),
        sqlite_with_rowid=False,
    )
