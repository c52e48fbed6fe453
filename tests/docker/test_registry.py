"""The registry adapter against an Apicurio in a container."""

from tests.integration.test_registry import *  # noqa: F403 - the suite itself: its tests and fixtures
