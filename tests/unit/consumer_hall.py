"""A topic and a ledger in memory, and workers of the consumer on both: for tests of the consumer's worker."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from consumers.apply.worker import LedgerWorker
from tests.kit.event_stream import Roughness, make_stream
from tests.kit.fakes.ledger import FakeDatabase, FakeLedger
from tests.kit.fakes.subscription import FakeSubscription, FakeTopic
from trekkpaalegg.decode import Decoder
from trekkpaalegg.exactly_once.worker import StoreThread, WorkerOptions

if TYPE_CHECKING:
    from collections.abc import Callable

ROUGH = Roughness(late=0.1, corrected=0.2)
UNTIL_END = WorkerOptions(until_end=True, batch_records_max=7)
STREAM = make_stream(1, 30, roughness=ROUGH)


class Hall:
    """A topic, a ledger, and one worker on both."""

    def __init__(self) -> None:
        self.topic = FakeTopic()
        self.database = FakeDatabase()
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.stopping = threading.Event()
        self.decoder = Decoder()
        self.before_read: list[Callable[[FakeSubscription], None]] = []
        self.subscriptions: list[FakeSubscription] = []
        self._threads: list[StoreThread] = []

    def work(self, options: WorkerOptions = UNTIL_END, ledger: FakeLedger | None = None) -> LedgerWorker:
        """Until the end; the worker that did it."""
        worker = self.worker(options, ledger)
        worker.run(self.subscribe)
        return worker

    def worker(self, options: WorkerOptions = UNTIL_END, ledger: FakeLedger | None = None) -> LedgerWorker:
        self._threads.append(StoreThread())
        return LedgerWorker(
            ledger or FakeLedger(self.database), self._threads[-1], self.decoder, self.stopping, self.tell, options
        )

    def subscribe(self, owner: Any) -> FakeSubscription:
        self.subscriptions.append(FakeSubscription(self.topic, owner, self.before_read))
        return self.subscriptions[-1]

    def tell(self, event: str, **details: Any) -> None:
        self.told.append((event, details))

    def events_told(self) -> list[str]:
        return [event for event, _ in self.told]

    def close(self) -> None:
        assert all(thread.close(10) for thread in self._threads)


def tables_of(publications: list[Any]) -> Any:
    """The ledger of a worker that nothing disturbs."""
    hall = Hall()
    hall.topic.write(publications)
    hall.work()
    hall.close()
    return hall.database.tables
