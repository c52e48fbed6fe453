"""The promises of `Membership` on a Kafka in a container."""

from tests.contract.test_membership_contract import *  # noqa: F403 - the suite itself: its tests and fixtures
