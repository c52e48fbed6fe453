"""The producer is stopped under load, and while a Kafka in a container is frozen."""

from tests.e2e.test_stopping import *  # noqa: F403 - the suite itself: its tests and fixtures
