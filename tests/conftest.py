"""Fixtures that all tests share: the embedded servers, started once a session and only when a test asks."""

from __future__ import annotations

import os
import shutil
import uuid
from typing import TYPE_CHECKING

import pytest
import structlog

from sandbox.kafka import EmbeddedKafka
from sandbox.postgresql import EmbeddedPostgresql
from sandbox.registry import EmbeddedRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEBIAN_PACKAGES = {"kcat": "kcat", "promtool": "prometheus"}
"""Programs that tests use and Python packages do not bring, and the Debian package of each."""


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


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """Path of a program of `DEBIAN_PACKAGES`; without it the test is skipped and the end tells so, in CI it fails."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            reason = f"{name} is not installed; on Debian and Ubuntu: sudo apt-get install {DEBIAN_PACKAGES[name]}"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)
        return path

    return find


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """A command that was run in this process must not leave its logs to a stream that pytest has closed since."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def topic_prefix() -> str:
    """Start of every topic, group and transactional id of this test, so that tests can share one broker."""
    return f"test-{uuid.uuid4().hex[:12]}"
