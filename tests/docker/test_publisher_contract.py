"""The promises of `LanePublisher` on a Kafka in a container."""

from tests.contract.test_publisher_contract import *  # noqa: F403 - the suite itself: its tests and fixtures
