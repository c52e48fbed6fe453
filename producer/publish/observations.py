"""The observations on Kafka: what lanes hand over to the homes of orders, in two topics, the rows."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import structlog
from confluent_kafka import IsolationLevel, KafkaException, TopicPartition

from producer.domain.state import ObservationOffsets
from producer.errors import ObservationsLostError
from producer.publish.port import ObservedRecord, Row
from trekkpaalegg.errors import TrekkpaaleggError
from trekkpaalegg.incoming import Partition
from trekkpaalegg.kafka.admin import CALL_SECONDS_MAX, Admin
from trekkpaalegg.kafka.clients import create_consumer
from trekkpaalegg.kafka.errors import OUT_OF_RANGE, ends_reading, translate_reading
from trekkpaalegg.kafka.health import ALL_FORGOTTEN, ClientHealth

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Future

    from confluent_kafka import Consumer, KafkaError, Message
    from confluent_kafka.admin import AdminClient

    from producer.publish.plain_log import PlainLog
    from producer.publish.port import NewObservation
    from producer.publish.topics import Topics
    from trekkpaalegg.errors import RetryableError

ROOM_MAX = 2_500
"""A row with so many outstanding records is not read; it is again when half of them are done."""

_BATCH_RECORDS_MAX = 1000
_POLL_SECONDS = 0.1

_log = structlog.get_logger(__name__)


def _topic_of(row: Row, topics: Topics) -> str:
    return topics.observations_urgent if row is Row.URGENT else topics.observations


class KafkaObservationReader:
    """See `ObservationReader`. Reads partition `lane` of both rows.

    A reader of its own beside `trekkpaalegg.kafka.reader`: it reads single partitions, what is not committed too, and
    pauses one of the two while the other goes on. librdkafka reads certificates and password only when a client is
    created, so that after a refusal the lane builds another reader.
    """

    def __init__(self, properties: Mapping[str, str], topics: Topics, lane: int) -> None:
        self._properties = properties
        self._partitions = {row: Partition(_topic_of(row, topics), lane) for row in Row}
        self._rows = {partition.topic: row for row, partition in self._partitions.items()}
        self._lane = lane
        self._health = ClientHealth()
        self._admin: Admin | None = None
        self._next: dict[Row, int] = {}
        self._outstanding = dict.fromkeys(Row, 0)
        self._counting = threading.Lock()
        self._paused: set[Row] = set()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def start(
        self,
        offsets: ObservationOffsets,
        deliver: Callable[[list[ObservedRecord]], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        """See `ObservationReader.start`."""
        self._next = {Row.URGENT: offsets.urgent, Row.BULK: offsets.bulk}

        def read() -> None:
            try:
                self._read(deliver)
            except BaseException as error:  # noqa: BLE001 - reported to the lane
                if not self._closing.is_set():
                    fail(error)

        self._thread = threading.Thread(target=read, name=f"observations-{self._lane}", daemon=True)
        self._thread.start()

    def done(self, row: Row, count: int) -> None:
        """See `ObservationReader.done`."""
        with self._counting:
            self._outstanding[row] -= count

    def ends(self) -> ObservationOffsets:
        """See `ObservationReader.ends`."""
        found = self._connected_admin().ends(self._partitions.values(), IsolationLevel.READ_UNCOMMITTED)
        return ObservationOffsets(*(found[self._partitions[row]] for row in (Row.URGENT, Row.BULK)))

    def delete_before(self, offsets: ObservationOffsets) -> None:
        """See `ObservationReader.delete_before`."""
        before = ((Row.URGENT, offsets.urgent), (Row.BULK, offsets.bulk))
        wanted = [TopicPartition(*self._partitions[row], offset) for row, offset in before if offset > 0]

        def delete(client: AdminClient) -> None:
            for future in client.delete_records(wanted, request_timeout=CALL_SECONDS_MAX).values():
                future.add_done_callback(_log_failure)

        try:
            self._connected_admin().call("deleting observations", delete)
        except TrekkpaaleggError as error:
            _log.warning("observations cannot be deleted now", lane=self._lane, reason=str(error))

    def close(self) -> None:
        """See `ObservationReader.close`."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
        self._admin = None

    def _connected_admin(self) -> Admin:
        if self._admin is None:
            self._admin = Admin(self._properties)
        return self._admin

    def _connect(self) -> Consumer:
        consumer = create_consumer(
            {
                "queued.min.messages": 250,
                "queued.max.messages.kbytes": 16_384,
                **self._properties,
                "group.id": "none",  # never joined; librdkafka demands one
                "enable.auto.commit": False,
                "isolation.level": "read_uncommitted",
                "auto.offset.reset": "error",  # deleted observations must not be passed over in silence
                # A row that was paused is asked for again once the fetch that is under way has been answered.
                "fetch.wait.max.ms": 50,
                **self._health.callbacks(),
            }
        )
        consumer.assign([TopicPartition(*self._partitions[row], offset) for row, offset in self._next.items()])
        self._paused = set()
        return consumer

    def _read(self, deliver: Callable[[list[ObservedRecord]], None]) -> None:
        consumer = self._connect()
        try:
            while not self._closing.is_set():
                if self._health.refusal is not None:
                    raise self._translated(self._health.refusal, Row.URGENT)
                if self._health.has_forgotten_brokers:
                    _log.info(ALL_FORGOTTEN)
                    consumer.close()
                    consumer = self._connect()
                    self._health.replaced()
                self._make_room(consumer)
                records = self._received(consumer)
                if records and not self._closing.is_set():
                    with self._counting:
                        for record in records:
                            self._outstanding[record.row] += 1
                    deliver(records)
        finally:
            consumer.close()

    def _make_room(self, consumer: Consumer) -> None:
        """Pause the rows of which too much is outstanding, and resume those that were."""
        with self._counting:
            full = {row for row, count in self._outstanding.items() if count >= ROOM_MAX}
            roomy = {row for row, count in self._outstanding.items() if count <= ROOM_MAX // 2}
        if pausing := full - self._paused:
            consumer.pause([TopicPartition(*self._partitions[row]) for row in pausing])
        if resuming := roomy & self._paused:
            consumer.resume([TopicPartition(*self._partitions[row]) for row in resuming])
        self._paused = (self._paused | full) - roomy

    def _received(self, consumer: Consumer) -> list[ObservedRecord]:
        """What has come, waiting for the first of it only."""
        try:
            first = consumer.poll(_POLL_SECONDS)
            messages = [] if first is None else [first, *consumer.consume(_BATCH_RECORDS_MAX, timeout=0)]
        except KafkaException as error:
            raise self._translated(error.args[0], Row.URGENT) from error
        records = []
        for message in messages:
            row, failed = self._rows.get(message.topic() or "", Row.URGENT), message.error()
            if failed is None:
                records.append(_record(row, message))
                self._next[row] = records[-1].offset + 1
            elif failed.code() == OUT_OF_RANGE:
                topic, lane = self._partitions[row]
                raise ObservationsLostError(f"{topic}/{lane}: what was to be read from {self._next[row]} on is deleted")
            elif ends_reading(failed, joins_group=False):
                raise self._translated(failed, row)
        return records

    def _translated(self, error: KafkaError, row: Row) -> Exception:
        topic = self._partitions[row].topic
        return translate_reading(error, topic, self._properties, self._health.reason, role="producer")


def _record(row: Row, message: Message) -> ObservedRecord:
    headers: Any = message.headers() or ()  # typed for everything that headers may be
    return ObservedRecord(row, message.offset() or 0, message.key() or b"", message.value(), dict(headers))


def _log_failure(future: Future[Any]) -> None:
    error = future.exception()
    if error is not None:
        reason = error.args[0].name() if isinstance(error, KafkaException) else type(error).__name__
        _log.warning("observations were not deleted; they are kept until a later time", reason=reason)


class KafkaObservationWriter:
    """See `ObservationWriter`."""

    def __init__(self, log: PlainLog, topics: Topics) -> None:
        self._log = log
        self._topics = {row: _topic_of(row, topics) for row in Row}

    def store(
        self, row: Row, records: Sequence[NewObservation], on_done: Callable[[RetryableError | None], None]
    ) -> None:
        """See `ObservationWriter.store`."""
        self._log.store_all(self._topics[row], records, on_done)
