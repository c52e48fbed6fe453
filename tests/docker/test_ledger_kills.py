"""A consumer dies at every step of a batch; its servers are in containers."""

from tests.e2e.test_ledger_kills import *  # noqa: F403 - the suite itself: its tests and fixtures
