"""The fixtures of other suites with servers in containers: modules of this folder import those suites and run them.

Every server is on a read-only root file system, which asks more of it. All tests of this folder but those of
`docker compose` run in one process, one after another, and share them; those that end one start it again.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kit.containers import images
from tests.kit.containers.kafka import ContainerKafka
from tests.kit.containers.postgresql import ContainerPostgresql
from tests.kit.containers.registry import ContainerRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testcontainers.core.container import DockerContainer

HERE = Path(__file__).parent
NOTHING_IN_A_CONTAINER = {"fake", "sqlite"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all of this folder; leave out what runs on no server at all."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.docker(images.KAFKA, images.REGISTRY, images.POSTGRESQL))
    items[:] = [item for item in items if not (item.path.is_relative_to(HERE) and is_of_no_container(item))]


def is_of_no_container(item: pytest.Item) -> bool:
    callspec = getattr(item, "callspec", None)
    return callspec is not None and not NOTHING_IN_A_CONTAINER.isdisjoint(map(str, callspec.params.values()))


class ReadOnlyKafka(ContainerKafka):
    def _describe(self, container: DockerContainer) -> None:
        super()._describe(container)
        of_user = "uid=1000,gid=1000"
        container.tmpfs = {"/opt/kafka/config": of_user, "/opt/kafka/logs": of_user, "/tmp": ""}  # noqa: S108 - in the container
        container.with_kwargs(read_only=True)


class ReadOnlyRegistry(ContainerRegistry):
    def _describe(self, container: DockerContainer) -> None:
        super()._describe(container)
        container.tmpfs = {"/tmp": ""}  # noqa: S108 - in the container
        container.with_kwargs(read_only=True)


class ReadOnlyPostgresql(ContainerPostgresql):
    """Its password comes in a file, of another name than that of its user's database."""

    def __init__(self, secret: Path) -> None:
        super().__init__()
        self._secret = secret
        secret.write_text(self._password)

    def _describe(self, container: DockerContainer) -> None:
        super()._describe(container)
        del container.env["POSTGRES_PASSWORD"]
        container.with_env("POSTGRES_PASSWORD_FILE", "/run/secrets/password")
        container.with_volume_mapping(self._secret, "/run/secrets/password")
        container.tmpfs = {"/var/run/postgresql": "", "/tmp": ""}  # noqa: S108 - in the container
        container.with_kwargs(read_only=True)


@pytest.fixture(scope="session")
def kafka() -> Iterator[ContainerKafka]:
    with ReadOnlyKafka(properties={"log.cleaner.backoff.ms": "4321"}) as server:
        yield server


@pytest.fixture(scope="session")
def registry() -> Iterator[ContainerRegistry]:
    with ReadOnlyRegistry() as server:
        yield server


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContainerPostgresql]:
    with ReadOnlyPostgresql(tmp_path_factory.mktemp("secrets") / "password") as server:
        yield server
