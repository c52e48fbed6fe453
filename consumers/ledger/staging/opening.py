"""A ledger's URL and the plan of a replay in, the fresh ledger that it builds in out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumers.ledger.address import PostgresqlAddress, address_of
from consumers.ledger.staging.postgresql import open_postgresql_target
from consumers.ledger.staging.sqlite import open_sqlite_target

if TYPE_CHECKING:
    from collections.abc import Mapping

    from consumers.ledger.port import Partition
    from consumers.ledger.staging.port import ReplayTarget


def open_replay_target(
    url: str, plan: str, begins: Mapping[Partition, int] | None = None, *, copy: bool = False
) -> ReplayTarget:
    """Make a fresh ledger beside the one at this URL, or take up that of an interrupted replay with the same plan.

    `plan` says what is replayed and how (topic, from when), so that only its like is continued; what another plan left
    is dropped. `copy` begins with a copy of the live tables, offsets included, as they stand at one moment.
    `begins` are the offsets that a fresh ledger begins with; those of a copy they move back, never forward, so that
    what the live one has not read is read. A replay that is continued goes on where it was.
    Raises as `open_ledger`, and `FatalError` while another replay of the same ledger is running.
    """
    address = address_of(url)
    if isinstance(address, PostgresqlAddress):
        return open_postgresql_target(address, plan, begins or {}, copy=copy)
    return open_sqlite_target(address, plan, begins or {}, copy=copy)
