"""A consumer whose handler writes to its own tables, in the transaction that moves Kafka's offsets.

::

    engine = sqlalchemy.create_engine("postgresql+psycopg://payroll@localhost/payroll")
    consumer = ExactlyOnce(engine, {"bootstrap.servers": "localhost:9092"}, group="payroll")
    consumer.create_tables()

    def handle(connection, events):
        for incoming in events:
            connection.execute(upsert, row_of(incoming.event))

    consumer.run(handle)

Why nothing is lost or doubled: offsets lie in your database, and move in the transaction in which the handler writes.
Reading begins where the database says, with isolation `read_committed`. Kafka's consumer group only shares the
partitions out among processes. A process that has lost a partition and does not know yet finds the offset moved by the
new owner, and its transaction is rolled back.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import sqlalchemy as sa

from trekkpaalegg.cli import stopped_by_signals
from trekkpaalegg.decode import Decoder
from trekkpaalegg.errors import RetryableError, StoppedError
from trekkpaalegg.exactly_once.retry import RetryOutcome, retry_undecodable
from trekkpaalegg.exactly_once.store import (
    SqlStore,
    SqlTransaction,
    StoreTables,
    define_tables,
    retrying_transient_errors,
)
from trekkpaalegg.exactly_once.worker import StoreThread, Tally, Worker, WorkerOptions
from trekkpaalegg.kafka.subscription import Subscription

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy.engine import Connection, Engine

    from trekkpaalegg.incoming import IncomingEvent, UndecodableMessage

    Handler = Callable[[Connection, Sequence[IncomingEvent]], object]

_log = logging.getLogger("trekkpaalegg.exactly_once")
_CLOSE_SECONDS_MAX = 1.0


class ExactlyOnce:
    """Calls a handler with batches of events and an open connection, and commits its writes with the offsets.

    The handler is called as `handler(connection, events)`, in a thread of its own, by one call at a time. `events` are
    in the order of their partition, so that those of one order come in the order of publication; `incoming.correction`
    and `incoming.late` say how an event came. The handler

    - writes with `connection` only, and neither commits nor rolls back (`connection.begin_nested()` is allowed);
    - does nothing that a rollback does not undo: after a temporary failure, such as a deadlock or a lost connection, it
      is called again with the same events;
    - lets database errors through. Any other exception rolls the batch back and is raised by `run`.

    `engine`: any database of SQLAlchemy's with transactions; not in AUTOCOMMIT. `kafka`: properties of librdkafka, at
    least `bootstrap.servers`. `group`: the consumer group, one for each set of tables; members share the partitions.
    `decoder`: with a schema source, if the producer uses a registry. `tables`: as `define_tables` returned them, if two
    consumers share a database. `undecodable_max`: with more messages than that which cannot be decoded, `run` raises
    `FatalError`; until then they are stored with their bytes, and `retry_undecodable` handles them after a fix.
    `instance_id`: a stable name of this process, with which it has its partitions back after a restart at once.
    `report(event, **details)` is called with what an operator may want to know; by default it is logged with INFO by
    the logger `trekkpaalegg.exactly_once`.
    """

    def __init__(  # noqa: PLR0913 - what may be left out has a default
        self,
        engine: Engine,
        kafka: Mapping[str, str],
        group: str,
        *,
        topic: str = "trekkpaalegg-versjoner",
        decoder: Decoder | None = None,
        tables: StoreTables | None = None,
        undecodable_max: int = 100,
        batch_records_max: int = 5_000,
        instance_id: str | None = None,
        report: Callable[..., None] | None = None,
    ) -> None:
        self._engine = engine
        self._kafka = dict(kafka)
        self._group = group
        self._topic = topic
        self._decoder = decoder or Decoder()
        self._tables = tables or define_tables(sa.MetaData())
        self._undecodable_max = undecodable_max
        self._batch_records_max = batch_records_max
        self._instance_id = instance_id
        self._report = report or _log_event
        self._store = SqlStore(engine, self._tables)

    def create_tables(self) -> None:
        """Create the tables of offsets and undecodable messages, unless they exist."""
        for table in self._tables:
            table.create(self._engine, checkfirst=True)

    def run(self, handler: Handler, *, stop: threading.Event | None = None, until_end: bool = False) -> Tally:
        """Handle events until `stop` is set, or, with `until_end`, all that were committed at the start.

        With neither, SIGTERM and Ctrl-C stop it in order, if it runs in the main thread.

        A Kafka or a database that goes away is waited for, for as long as it takes. Raises

        - `FatalError` for what needs a person: a table or topic that is missing, an offset that the topic no longer
          has, too many undecodable messages;
        - `RetryableError` when Kafka does not answer at the start, or the database in time after `stop`;
        - `FencedError` when another process has the same `instance_id`;
        - SQLAlchemy's errors for a database that does not answer at the start, and what the handler raises.
        """
        is_main = threading.current_thread() is threading.main_thread()
        if stop is None and is_main and not until_end:
            with stopped_by_signals() as stopping:
                return self._run(handler, stopping, until_end=False)
        return self._run(handler, stop or threading.Event(), until_end=until_end)

    def _run(self, handler: Handler, stop: threading.Event, *, until_end: bool) -> Tally:
        self._store.check()
        thread = StoreThread()
        options = WorkerOptions(
            until_end=until_end, undecodable_max=self._undecodable_max, batch_records_max=self._batch_records_max
        )
        worker = _HandlerWorker(self._store, thread, self._decoder, stop, self._report, options)
        worker.handler = handler
        worker.undecodable_table = self._tables.undecodable.name
        worker.lost_offset_advice = (
            f"to handle the topic again from its beginning, empty your tables and {self._tables.offsets.name}"
        )
        try:
            worker.run(lambda owner: Subscription(self._kafka, self._topic, self._group, owner, self._instance_id))
        except StoppedError as error:
            raise RetryableError("the database did not answer in time after the signal to stop") from error
        finally:
            thread.close(_CLOSE_SECONDS_MAX)
        return worker.tally

    def undecodable(self) -> list[UndecodableMessage]:
        """The messages that could not be decoded, with their bytes, by topic, partition and offset."""
        return self._store.undecodable()

    def retry_undecodable(self, handler: Handler) -> RetryOutcome:
        """Decode stored messages again, and handle those that succeed. Consumers may be running meanwhile.

        Their events may be older than what was handled since; see `trekkversjon` and `correction`.
        """

        def handle(transaction: SqlTransaction, events: Sequence[IncomingEvent]) -> None:
            _handle(handler, transaction, events)

        return retry_undecodable(self._store, self._decoder, handle)


class _HandlerWorker(Worker[SqlTransaction, None]):
    handler: Handler

    def handle(self, transaction: SqlTransaction, events: Sequence[IncomingEvent]) -> None:
        if events:
            _handle(self.handler, transaction, events)


def _handle(handler: Handler, transaction: SqlTransaction, events: Sequence[IncomingEvent]) -> None:
    with retrying_transient_errors():
        handler(transaction.connection, events)


def _log_event(event: str, **details: object) -> None:
    _log.info("%s%s", event, "".join(f" {name}={value!r}" for name, value in details.items()))
