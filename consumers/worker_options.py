"""How a worker is to work: what its command lets choose, and how long it waits."""

from __future__ import annotations

import msgspec

from consumers.apply import Rewriting

UNDECODABLE_MAX_DEFAULT = 100
BATCH_RECORDS_MAX = 5_000


class WorkerOptions(msgspec.Struct, frozen=True):
    """How to work. A batch is given to the ledger when it has so many records or is so old.

    `newest_only`: only the newest version of each order is kept. `until_end`: end when all is applied that was
    committed at the start. `undecodable_max`: with more undecodable messages than that in the ledger, refuse to go on.
    `waits_at_start`: a Kafka that does not answer at the start is waited for too. `rewriting`: as for
    `consumers.apply.decide`.
    """

    newest_only: bool = False
    until_end: bool = False
    undecodable_max: int = UNDECODABLE_MAX_DEFAULT
    batch_records_max: int = BATCH_RECORDS_MAX
    batch_seconds_max: float = 0.1
    status_seconds: float = 10.0
    ask_seconds: float = 10.0
    """How often a ledger with nothing to write is asked how it is."""

    waits_at_start: bool = False
    refused_pause_seconds: float = 5.0
    stop_seconds_max: float = 8.0
    """How long a batch under way may take after the word to stop: within the ten seconds that platforms wait."""
    rewriting: Rewriting | None = None
