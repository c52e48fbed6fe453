"""A real MariaDB of Debian's package `mariadb-server-core`, started in a temporary folder on a free port."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar

import pymysql

from sandbox.servers.process import ServerProcess
from sandbox.servers.server import LOOPBACK, EmbeddedServer, free_port

if TYPE_CHECKING:
    from pathlib import Path

_START_DEADLINE_SECONDS = 120


class EmbeddedMariadb(EmbeddedServer):
    """MariaDB without users; `program` is the path of `mariadbd`."""

    name: ClassVar[str] = "mariadb"

    def __init__(self, program: str, data_folder: Path | None = None) -> None:
        super().__init__(data_folder)
        self.port = free_port()
        self._program = program

    def create_database(self, name: str) -> str:
        """Create a database; returns its address for SQLAlchemy."""
        with self._connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE `{name}`")
        return f"mariadb+pymysql://test@{LOOPBACK}:{self.port}/{name}?charset=utf8mb4"

    def stop(self) -> None:
        """Stop cleanly."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def _ports(self) -> tuple[int, ...]:
        return (self.port,)

    def _launch(self) -> ServerProcess:
        data = self.data_folder / "data"
        data.mkdir(exist_ok=True)
        user = "root" if os.geteuid() == 0 else os.environ.get("USER", "nobody")
        # Without tables of users nobody is asked for a password, and `mariadb-install-db` is not needed.
        process = ServerProcess(
            self.name,
            [
                *(self._program, "--no-defaults", f"--datadir={data}", f"--user={user}", f"--port={self.port}"),
                *(f"--bind-address={LOOPBACK}", f"--socket={self.data_folder / 'mariadb.sock'}"),
                *(f"--pid-file={self.data_folder / 'mariadb.pid'}", "--skip-grant-tables", "--skip-name-resolve"),
                *("--innodb-buffer-pool-size=32M", "--innodb-lock-wait-timeout=10"),
            ],
            log_file=self.log_file,
            working_folder=self.data_folder,
            temporary_folder=self.temporary_folder,
        )
        process.wait_until(self._answers, deadline_seconds=_START_DEADLINE_SECONDS)
        return process

    def _connect(self) -> pymysql.Connection[pymysql.cursors.Cursor]:
        return pymysql.connect(host=LOOPBACK, port=self.port, user="test", connect_timeout=5)

    def _answers(self) -> bool:
        try:
            self._connect().close()
        except pymysql.MySQLError:
            return False
        return True
