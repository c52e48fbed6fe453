"""Replays beside live consumers, interrupted and cut off; their servers are in containers."""

from tests.e2e.test_replay_alive import *  # noqa: F403 - the suite itself: its tests and fixtures
