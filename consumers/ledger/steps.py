"""A folder of migrations and a database in, the database moved on by the steps that it lacks out, by alembic."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from consumers.errors import FatalError

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.engine import Connection


class Steps:
    """The steps in `folder`; the table `version_table` says how far a database has come."""

    def __init__(self, folder: Path, version_table: str) -> None:
        self._folder = folder
        self.version_table = version_table

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Every step's name, the last one first."""
        return tuple(script.revision for script in ScriptDirectory.from_config(self._config()).walk_revisions())

    def reached(self, connection: Connection) -> str | None:
        """The step that the database has come to. Its `version_table` must be there."""
        name: str | None = connection.scalar(
            sa.select(sa.column("version_num")).select_from(sa.table(self.version_table))
        )
        return name

    def are_taken(self, connection: Connection, what: str) -> bool:
        """Whether it has come to the last step. Raises `FatalError`, which names it as `what`, when it is beyond."""
        name = self.reached(connection)
        if name is not None and name not in self.names:
            raise FatalError(f"{what} is of a newer version of this program: install that one")
        return name == self.names[0]

    def upgrade(self, connection: Connection, to: str = "head") -> None:
        """Take all steps that are to be taken, to the last one or to `to`, within the connection's transaction."""
        command.upgrade(self._config(connection), to)

    def stamp(self, connection: Connection, name: str) -> None:
        """Write down that the database has come to this step."""
        command.stamp(self._config(connection), name)

    def _config(self, connection: Connection | None = None) -> Config:
        config = Config()
        config.set_main_option("script_location", str(self._folder).replace("%", "%%"))
        config.attributes["migration"] = {"connection": connection, "version_table": self.version_table}
        return config
