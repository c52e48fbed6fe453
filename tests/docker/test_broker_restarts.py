"""A broker in a container is stopped and killed under load; a registry in a container comes late and goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.test_broker_trouble import (
    test_a_broker_that_is_stopped_and_killed_under_load_comes_back_to_the_same_worker,
)
from tests.e2e.test_rough_weather import test_a_registry_that_is_down_at_the_start_is_waited_for_and_then_used
from tests.kit.containers.registry import ContainerRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "test_a_broker_that_is_stopped_and_killed_under_load_comes_back_to_the_same_worker",
    "test_a_registry_that_is_down_at_the_start_is_waited_for_and_then_used",
]


@pytest.fixture
def late_registry() -> Iterator[ContainerRegistry]:
    """A registry that does not run yet; its address is known."""
    registry = ContainerRegistry()
    yield registry
    registry.close()
