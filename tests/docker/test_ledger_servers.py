"""Kafka and PostgreSQL under a consumer are stopped and killed, being in containers."""

from tests.e2e.test_ledger_servers import *  # noqa: F403 - the suite itself: its tests and fixtures
