"""A topic in, its committed messages out, from its beginning, from given offsets or from now on, as they come.

No group is joined and no offset is stored: looking at a topic changes nothing, and any number may look at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from consumers.stream.partitions import partitions_of, watermarks_of
from trekkpaalegg.errors import FatalError
from trekkpaalegg.kafka.clients import create_consumer
from trekkpaalegg.kafka.diagnosis import LastReason
from trekkpaalegg.kafka.errors import ALL_DOWN, ends_reading, translate_reading
from trekkpaalegg.kafka.health import STATISTICS_SECONDS, ClientHealth
from trekkpaalegg.kafka.subscription import Look

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from confluent_kafka import Message

    from trekkpaalegg.errors import TrekkpaaleggError

BATCH_RECORDS_MAX = 500
_GROUP = "trekkpaalegg-consumer-tail"
# Codes of librdkafka's own begin with an underscore.
_AT_END = KafkaError._PARTITION_EOF  # noqa: SLF001 - see above


class Follower:
    """Reads `topic` with isolation `read_committed`: what a transaction has not committed is never seen.

    Raises `FatalError` when there is no such topic, `RefusedError` when Kafka refuses us, `RetryableError` when it does
    not answer at the start. Later it is waited for: `on_silence` is called each time that no broker can be reached any
    more.

    With `next_offsets` reading begins there, and at its beginning for a partition that is not among them; `FatalError`
    is raised when messages are no longer there that were not read yet, rather than passing over them.

    `awaits_open` counts what stands in open transactions as there at the start, to be waited for before the end is
    reached. A commit is answered before its markers are written, so that what was committed just now looks open for a
    moment, and without it would be left behind.

    librdkafka tells of itself every two seconds, within `poll`: see `look`. When it has forgotten every broker, a new
    client goes on from where the last one was.
    """

    def __init__(
        self,
        properties: Mapping[str, str],
        topic: str,
        *,
        from_beginning: bool,
        next_offsets: Mapping[int, int] | None = None,
        awaits_open: bool = False,
        on_silence: Callable[[], None] = lambda: None,
    ) -> None:
        self.topic = topic
        self._on_silence = on_silence
        self._refusal: KafkaError | None = None
        self._is_cut_off = False
        self._reason = LastReason()
        self._properties = properties
        self._ahead: dict[int, int] = {}
        self._health = ClientHealth(topic)
        settings: dict[str, Any] = {
            **properties,
            "group.id": _GROUP,  # never joined; librdkafka wants one
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest" if next_offsets is None else "error",
            "enable.partition.eof": True,
            "error_cb": self._take_trouble,
        }
        watching = {"statistics.interval.ms": STATISTICS_SECONDS * 1000, "stats_cb": self._health.update}
        self._settings = settings | watching
        self._consumer = create_consumer(self._settings)
        try:
            self._positions = self._assign(next_offsets, from_beginning=from_beginning)
            if awaits_open:
                self._await_open(settings)
        except KafkaException as error:
            self._consumer.poll(0)  # reads nothing yet; librdkafka tells its reasons within
            failed = self._translated(error.args[0])
            self.close()
            raise failed from error
        except BaseException:
            self.close()
            raise

    @property
    def has_reached_end(self) -> bool:
        """Whether everything has been given that was committed when the following began; see `awaits_open`."""
        return not self._ahead

    @property
    def positions(self) -> dict[int, int]:
        """For every partition the offset after all that was given; behind its last message, markers are passed too."""
        return dict(self._positions)

    def look(self) -> Look:
        """What librdkafka told last. Every partition is this reader's."""
        return Look(
            partitions=frozenset(self._positions),
            ends=self._health.ends,
            partition_count=len(self._positions),
            is_reachable=bool(self._health.is_connected),
            is_member=True,
        )

    def poll(self, seconds_max: float = 0.1) -> list[Message]:
        """What has come, waiting at most so long; may be empty. Raises `FatalError` when Kafka refuses us."""
        messages = []
        for message in self._consumer.consume(BATCH_RECORDS_MAX, timeout=seconds_max):
            error, partition, offset = message.error(), message.partition() or 0, message.offset() or 0
            if error is None:
                messages.append(message)
                self._is_cut_off = False
                self._pass(partition, offset + 1)
            elif error.code() == _AT_END:
                self._pass(partition, offset)
            elif ends_reading(error, joins_group=False):
                raise self._translated(error)
        if self._refusal is not None:
            raise self._translated(self._refusal)
        if self._health.has_forgotten_brokers:
            self._connect_anew()
        return messages

    def _connect_anew(self) -> None:
        former, self._consumer = self._consumer, create_consumer(self._settings)
        former.close()
        self._health.replaced()
        self._consumer.assign([TopicPartition(self.topic, *place) for place in self._positions.items()])

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _pass(self, partition: int, offset: int) -> None:
        self._positions[partition] = offset
        if offset >= self._ahead.get(partition, 0):
            self._ahead.pop(partition, None)

    def _take_trouble(self, error: KafkaError) -> None:
        """Called by librdkafka within `consume`, of what it then mends by itself if it can."""
        self._reason.record(error)
        # That all are down is told once: of a broker that comes back and refuses us, before it does.
        self._is_cut_off |= error.code() == ALL_DOWN
        if error.fatal() or (self._is_cut_off and self._reason.is_refusal):
            self._refusal = error
        elif error.code() == ALL_DOWN:
            self._on_silence()

    def _translated(self, error: KafkaError) -> TrekkpaaleggError:
        if error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001 - librdkafka's own
            return FatalError(
                f"{self.topic}: messages that were not read yet are deleted; see its retention, then begin with a new "
                "state"
            )
        return translate_reading(error, self.topic, self._properties, self._reason)

    def _assign(self, next_offsets: Mapping[int, int] | None, *, from_beginning: bool) -> dict[int, int]:
        """Start reading every partition, from where is given back; what is before its end is then still ahead."""
        starts = []
        for partition in partitions_of(self._consumer, self.topic, self._reason):
            # Of a reader of what is committed, the end is that of the last transaction that has ended.
            low, end = watermarks_of(self._consumer, self.topic, partition, self._reason)
            start = low if from_beginning else end
            if next_offsets is not None:
                start = next_offsets.get(partition, low)
                if not low <= start <= end:
                    raise FatalError(_gap(f"{self.topic}/{partition}", start, low, end))
            starts.append(TopicPartition(self.topic, partition, start))
            if start < end:
                self._ahead[partition] = end
        self._consumer.assign(starts)
        return {each.partition: each.offset for each in starts}

    def _await_open(self, settings: Mapping[str, Any]) -> None:
        """Move the ends behind what open transactions hold: to those that a reader of everything is told."""
        asking = create_consumer({**settings, "isolation.level": "read_uncommitted"})
        try:
            for partition, start in self._positions.items():
                _, end = watermarks_of(asking, self.topic, partition, self._reason)
                if start < end:
                    self._ahead[partition] = end
        finally:
            asking.close()


def _gap(place: str, start: int, low: int, end: int) -> str:
    what = f"messages from {start} to {low - 1} are deleted" if start < low else f"it ends at {end}, before {start}"
    return (
        f"{place}: {what}, so it cannot be gone on with where reading ended; "
        "see the topic's retention and whether it was made anew, then begin with a new state"
    )
