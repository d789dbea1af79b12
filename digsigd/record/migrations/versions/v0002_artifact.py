"""The second form: entries are found by the SHA-256 of their first artifact, the newest first."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the index."""
    op.create_index("entry_artifact", "entry", ["artifact", "log", "position"],
                    sqlite_where=sa.text("artifact <> ''"), postgresql_where=sa.text("artifact <> ''"))  # fmt: skip
