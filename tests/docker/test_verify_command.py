"""`verify` as a program on a Kafka in a container."""

from tests.integration.test_verify_command import *  # noqa: F403 - the suite itself: its tests and fixtures
