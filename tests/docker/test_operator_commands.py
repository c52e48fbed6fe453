"""Operators' commands, back-fill among them, on a Kafka in a container."""

from tests.e2e.test_operator_commands import *  # noqa: F403 - the suite itself: its tests and fixtures
