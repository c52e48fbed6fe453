"""The promises of `Ledger` on a PostgreSQL in a container."""

from tests.contract.test_ledger_contract import *  # noqa: F403 - the suite itself: its tests and fixtures
