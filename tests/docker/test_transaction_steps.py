"""The producer killed, or its commit failing, at every step of a transaction on a Kafka in a container."""

from tests.e2e.test_transaction_steps import *  # noqa: F403 - the suite itself: its tests and fixtures
