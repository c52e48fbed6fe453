"""The ledger consumer: what `trekkpaalegg.exactly_once` runs, with a ledger as its database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumers.apply.decide import Rewriting, decide, decide_newest, orders_of, versions_to_look_up
from consumers.observe.port import LedgerObserver, applied_of
from trekkpaalegg.exactly_once.retry import RetryOutcome, retry_undecodable
from trekkpaalegg.exactly_once.worker import DecodedBatch, StoreThread, Worker, WorkerOptions

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from consumers.ledger.port import Changes, Ledger, LedgerTransaction
    from trekkpaalegg.decode import Decoder
    from trekkpaalegg.incoming import IncomingEvent

UNDECODABLE_MAX_DEFAULT = 100
BATCH_RECORDS_MAX = 5_000
_NEWEST_ONLY_TOPIC = "-gjeldende"


def apply(
    transaction: LedgerTransaction,
    events: Sequence[IncomingEvent],
    *,
    newest_only: bool = False,
    rewriting: Rewriting | None = None,
) -> Changes:
    """Read what the ledger has of these orders, decide what the events change, and write it.

    `newest_only`: only the newest version of each order is kept. `rewriting`: as for `decide`.
    """
    newest = transaction.newest(orders_of(events))
    if newest_only:
        changes = decide_newest(events, newest)
    else:
        # The newest versions of a ledger that is being repaired do not show which versions its history has.
        wanted = versions_to_look_up(events, newest) if rewriting is None else {each.version for each in events}
        changes = decide(events, newest, transaction.versions(wanted) if wanted else {}, rewriting=rewriting)
    transaction.write(changes)
    return changes


class LedgerWorker(Worker["LedgerTransaction", "Changes"]):
    """Applies the events of one topic to one ledger; see `Worker`, and `apply` for both options."""

    lost_offset_advice = "rebuild the ledger with `trekkpaalegg-consumer replay`"
    undecodable_option = "--undecodable-max"
    undecodable_table = "undecodable_message"
    undecodable_advice = (
        "the table undecodable_message has the reasons. Fix the cause (a registry that is not set, a program older than"
        " the schema), then run `trekkpaalegg-consumer retry` and start again"
    )

    def __init__(  # noqa: PLR0913 - as `Worker`, and both options of `apply`
        self,
        ledger: Ledger,
        store_thread: StoreThread,
        decoder: Decoder,
        stopping: threading.Event,
        report: Callable[..., None],
        options: WorkerOptions,
        observer: LedgerObserver | None = None,
        *,
        newest_only: bool = False,
        rewriting: Rewriting | None = None,
    ) -> None:
        self._ledger_observer = observer = observer or LedgerObserver()
        super().__init__(ledger, store_thread, decoder, stopping, report, options, observer)
        self._newest_only = newest_only
        self._rewriting = rewriting
        self.conflicts = 0
        """How many conflicts this process has written."""

    def handle(self, transaction: LedgerTransaction, events: Sequence[IncomingEvent]) -> Changes:
        """See `Worker`."""
        return apply(transaction, events, newest_only=self._newest_only, rewriting=self._rewriting)

    def committed(self, batch: DecodedBatch, result: Changes) -> None:
        """See `Worker`."""
        applied = applied_of(len(batch.events), len(batch.undecodable), result, batch.written_at)
        self._ledger_observer.applied(applied)
        if result.conflicts:
            self.conflicts += len(result.conflicts)
            first = result.conflicts[0]
            self.report(
                "conflict: a version came with other content and is not marked as a correction;"
                " see trekkpaalegg_conflict",
                count=len(result.conflicts),
                trekkid=first.event.trekkid,
                trekkversjon=first.event.trekkversjon,
            )


def retry_undecodable_of(ledger: Ledger, decoder: Decoder) -> RetryOutcome:
    """Decode again what could not be decoded, and apply it. Raises as `retry_undecodable`.

    Messages from `…-gjeldende` count for the newest version only, as they did when they came.
    """
    return retry_undecodable(ledger, decoder, _apply_retried)


def _apply_retried(transaction: LedgerTransaction, events: Sequence[IncomingEvent]) -> None:
    for newest_only in (False, True):
        some = [each for each in events if each.coordinates.topic.endswith(_NEWEST_ONLY_TOPIC) is newest_only]
        if some:
            apply(transaction, some, newest_only=newest_only)
