"""Fixtures that all tests share: the embedded servers, started once a session and only when a test asks."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
import structlog

from sandbox.kafka import EmbeddedKafka
from sandbox.postgresql import EmbeddedPostgresql
from sandbox.registry import EmbeddedRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def kafka() -> Iterator[EmbeddedKafka]:
    """One real broker for the session. Share it by `topic_prefix`; a test that stops it starts one of its own."""
    with EmbeddedKafka() as server:
        yield server


@pytest.fixture(scope="session")
def registry() -> Iterator[EmbeddedRegistry]:
    """One real schema registry for the session. Share it by `topic_prefix`, which subjects begin with."""
    with EmbeddedRegistry() as server:
        yield server


@pytest.fixture(scope="session")
def postgresql() -> Iterator[EmbeddedPostgresql]:
    """One real PostgreSQL for the session; a test makes a database or schema of its own in it."""
    with EmbeddedPostgresql() as server:
        yield server


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """A command that was run in this process must not leave its logs to a stream that pytest has closed since."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def topic_prefix() -> str:
    """Start of every topic, group and transactional id of this test, so that tests can share one broker."""
    return f"test-{uuid.uuid4().hex[:12]}"
