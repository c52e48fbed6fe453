"""A real PostgreSQL with an empty database in a container."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, ClassVar

from sandbox.servers.postgresql import answers_queries
from sandbox.servers.server import LOOPBACK, free_port
from tests.kit.containers import images
from tests.kit.containers.server import ContainerServer

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

    from tests.kit.containers.images import Image

_PORT = 5432
_USER = "ledger"


class ContainerPostgresql(ContainerServer):
    """PostgreSQL of the image's version, with a password made now. `port` 0 takes a free one."""

    name: ClassVar[str] = "postgresql"
    image: ClassVar[Image] = images.POSTGRESQL

    def __init__(self, *, port: int = 0) -> None:
        super().__init__(port or free_port(), _PORT)
        self._password = secrets.token_urlsafe(16)

    @property
    def url(self) -> str:
        """Address of the database, `postgresql://…`, with the password."""
        return f"postgresql://{_USER}:{self._password}@{LOOPBACK}:{self.port}/{_USER}"

    def _describe(self, container: DockerContainer) -> None:
        container.with_envs(POSTGRES_USER=_USER, POSTGRES_PASSWORD=self._password)

    def _answers(self) -> bool:
        return answers_queries(self.url)
