"""Migrate the record's database, with Alembic."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from digsigd.record.errors import RecordError


def migrate(connect: Callable[[], Any], *, postgres: bool) -> None:
    """Bring the tables to the newest form, all or nothing. `connect` opens a connection.

    Raises `RecordError` if the database has a form that this digsigd does not know, and what the database raises.
    """
    # isolation_level: the connections commit by themselves, and SQLAlchemy must begin its transaction itself.
    engine = create_engine("postgresql+psycopg://" if postgres else "sqlite://", creator=connect, poolclass=NullPool)
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    try:
        with engine.connect() as connection:
            if not postgres:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
    except CommandError as error:
        raise RecordError(
            f"the record's database cannot be migrated: {error}", hint="a newer digsigd has used it; install that"
        ) from None
