"""The fixtures of other suites with servers in containers: modules of this folder import those suites and run them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.conftest import make_ledger_stage, make_stage, outside, stage
from tests.kit.containers import images
from tests.kit.containers.kafka import ContainerKafka
from tests.kit.containers.postgresql import ContainerPostgresql
from tests.kit.containers.registry import ContainerRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["make_ledger_stage", "make_stage", "outside", "stage"]

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


@pytest.fixture(scope="session")
def kafka() -> Iterator[ContainerKafka]:
    with ContainerKafka() as server:
        yield server


@pytest.fixture(scope="session")
def registry() -> Iterator[ContainerRegistry]:
    with ContainerRegistry() as server:
        yield server


@pytest.fixture(scope="session")
def postgresql() -> Iterator[ContainerPostgresql]:
    with ContainerPostgresql() as server:
        yield server


@pytest.fixture(scope="module")
def own_kafka() -> Iterator[ContainerKafka]:
    """A broker that no test outside the module uses."""
    with ContainerKafka() as server:
        yield server


@pytest.fixture(scope="module")
def own_postgresql() -> Iterator[ContainerPostgresql]:
    """A PostgreSQL that no test outside the module uses."""
    with ContainerPostgresql() as server:
        yield server
