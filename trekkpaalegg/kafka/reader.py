"""Read topics without joining a consumer group: a range of offsets, or what is committed from now on.

Reading changes nothing on Kafka: no offset is stored, so any number of readers may read at once.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, Literal, Self

import structlog
from confluent_kafka import IsolationLevel, KafkaException, TopicPartition

from trekkpaalegg.errors import FatalError, RefusedError, RetryableError
from trekkpaalegg.incoming import Partition
from trekkpaalegg.kafka.admin import Admin
from trekkpaalegg.kafka.clients import create_consumer
from trekkpaalegg.kafka.diagnosis import LastReason
from trekkpaalegg.kafka.errors import END_OF_PARTITION, OUT_OF_RANGE, ends_reading, translate_reading
from trekkpaalegg.kafka.health import ALL_FORGOTTEN, ClientHealth
from trekkpaalegg.kafka.subscription import ClientStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from confluent_kafka import Consumer, KafkaError, Message

STALLED_SECONDS_MAX = 30.0
BATCH_RECORDS_MAX = 10_000
BATCH_SECONDS_MAX = 0.02
"""A batch that is not full waits for so long in any case, so this is what the end of a partition costs."""
_FOLLOWED_RECORDS_MAX = 5000
_LOCATE_SECONDS_MAX = 1.0
"""The call holds back signals for so long."""

_log = structlog.get_logger(__name__)


def _consumer_settings(
    properties: Mapping[str, str], isolation: IsolationLevel, wait_milliseconds: int
) -> dict[str, Any]:
    return {
        **properties,
        "group.id": "none",  # never joined; librdkafka demands one
        "enable.auto.commit": False,
        "isolation.level": isolation.name.lower(),
        "auto.offset.reset": "error",  # deleted messages must not be passed over in silence
        "enable.partition.eof": True,
        # A broker holds back an empty answer for half a second by default, and with it that a partition ends there.
        "fetch.wait.max.ms": wait_milliseconds,
    }


_Left = dict[str, dict[int, int]]
"""By topic and number, the ends of the partitions that are still to be read: no tuple is made for each message."""
_NO_ENDS: dict[int, int] = {}


class RangeReader:
    """Reads ranges of offsets, each to its end. Close it, or use it as a context.

    Used by one thread. Its methods raise as those of `Admin`.
    """

    def __init__(
        self,
        properties: Mapping[str, str],
        *,
        isolation: IsolationLevel = IsolationLevel.READ_COMMITTED,
        role: str = "producer",
        stalled_seconds_max: float = STALLED_SECONDS_MAX,
    ) -> None:
        """`role` is who has the client's rights in `acls apply`; `stalled_seconds_max`: see `read`."""
        self._properties = properties
        self._role = role
        self._stalled_seconds_max = stalled_seconds_max
        self._reason = LastReason()
        self._consumer = create_consumer(_consumer_settings(properties, isolation, 10), self._reason)
        self._located: set[str] = set()

    def read(self, starts: Mapping[Partition, int], ends: Mapping[Partition, int]) -> Iterator[list[Message]]:
        """The messages from `starts` to before `ends`, in batches that may be empty; within a partition in order.

        Raises `RetryableError` when an end is not reached, as nothing came for `stalled_seconds_max`: a part is never
        returned as the whole. The same happens if messages of the range have just been deleted.
        """
        wanted = {each: end for each, end in ends.items() if starts[each] < end}
        if not wanted:
            return
        left: _Left = {topic: {} for topic, _ in wanted}
        for (topic, number), end in wanted.items():
            left[topic][number] = end
        self._locate(left)
        self._consumer.assign([TopicPartition(*each, starts[each]) for each in wanted])
        heard = time.monotonic()
        while any(left.values()):
            found = _consume(self._consumer, BATCH_RECORDS_MAX, BATCH_SECONDS_MAX)
            if not found and time.monotonic() - heard > self._stalled_seconds_max:
                raise self._stalled(left)
            yield self._within(found, left)
            if found:
                heard = time.monotonic()
        self._consumer.unassign()

    def _locate(self, topics: Iterable[str]) -> None:
        """Have librdkafka ask for the leaders of topics that are new to it.

        By itself it does so once a second for topics that are assigned later than the first (librdkafka 2.16: 0.7 to
        1 s against 0.03 s), which every lane would wait for when it is acquired.
        """
        for topic in set(topics) - self._located:
            with contextlib.suppress(KafkaException):  # then it does by itself
                self._consumer.list_topics(topic, timeout=_LOCATE_SECONDS_MAX)
                self._located.add(topic)

    def _within(self, found: list[Message], left: _Left) -> list[Message]:
        """Those before the ends; removes from `left` every partition that has reached its end."""
        messages = []
        for message in found:
            topic, number, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
            error, end = message.error(), left.get(topic, _NO_ENDS).get(number, 0)
            if error is None:
                if offset < end:
                    messages.append(message)
                offset += 1
            elif error.code() == OUT_OF_RANGE:
                raise RetryableError(f"{topic}: messages that were to be read have just been deleted; try again")
            elif error.code() != END_OF_PARTITION:
                if ends_reading(error, joins_group=False):
                    raise translate_reading(error, topic, self._properties, self._reason, role=self._role)
                continue
            if offset >= end:
                left.get(topic, _NO_ENDS).pop(number, None)
        return messages

    def _stalled(self, left: _Left) -> RetryableError:
        topics = ", ".join(sorted(topic for topic, ends in left.items() if ends))
        cause = self._reason.cause(self._properties) if self._reason.is_refusal else None
        if cause is not None:
            return RefusedError(f"{topics} cannot be read: {cause}")
        seconds = self._stalled_seconds_max
        return RetryableError(
            f"reading {topics} has stalled before its end, with nothing for {seconds:g} s; Kafka may be overloaded"
        )

    def close(self) -> None:
        """Disconnect from Kafka."""
        self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def read_to_end(
    properties: Mapping[str, str],
    partitions: Sequence[Partition],
    start: int | None = None,
    *,
    role: str = "producer",
    stalled_seconds_max: float = STALLED_SECONDS_MAX,
) -> Iterator[Message]:
    """Every committed message of these partitions, one after another, to the ends that they have when this is called.

    From their beginnings, or from `start`, if that is still there. Raises as `RangeReader.read`.
    """
    admin = Admin(properties, role=role, seconds_max=stalled_seconds_max)
    begins, ends = admin.begins(partitions), admin.ends(partitions)
    with RangeReader(properties, role=role, stalled_seconds_max=stalled_seconds_max) as reader:
        for each in partitions:
            first = begins[each] if start is None else max(start, begins[each])
            for messages in reader.read({each: first}, {each: ends[each]}):
                yield from messages


class Follower:
    """Reads what is committed to some topics as it comes, and never ends by itself. Close it, or use it as a context.

    It starts at the beginning of each partition, at its end, or at given offsets, and at the beginning of a partition
    that they do not name. `waits_for_open`: what open transactions hold at the start counts to its end too. A commit is
    answered before its markers are written, so that what was committed just now appears open for a moment, and would be
    missed without it.

    `on_silence` is called each time that no broker can be reached any more; reading continues when one can. When
    librdkafka has forgotten every broker, a new client continues from where the last one was. Used by one thread.

    Raises as `Admin` at the start, until `gives_up` returns true, and `FatalError` when given offsets are not there.
    """

    def __init__(
        self,
        properties: Mapping[str, str],
        topics: Sequence[str],
        start: Literal["beginning", "end"] | Mapping[Partition, int],
        *,
        role: str = "consumer",
        waits_for_open: bool = False,
        on_silence: Callable[[], None] = lambda: None,
        gives_up: Callable[[], bool] = lambda: False,
    ) -> None:
        self._properties = properties
        self._role = role
        self._on_silence = on_silence
        self._is_silent = False
        self.admin = Admin(properties, role=role, gives_up=gives_up, on_silence=on_silence)
        partitions = self.admin.partitions(*topics)
        begins = {} if start == "end" else self.admin.begins(partitions)
        ends = self.admin.ends(partitions)
        self._positions = begins if start == "beginning" else ends
        if not isinstance(start, str):
            self._positions = {each: start.get(each, begins[each]) for each in partitions}
            _check_starts(self._positions, begins, ends)
        self.first_ends = self.admin.ends(partitions, IsolationLevel.READ_UNCOMMITTED) if waits_for_open else ends
        """Where each partition ended at the start."""
        self.health = ClientHealth(topics[0])
        self._settings = _consumer_settings(properties, IsolationLevel.READ_COMMITTED, 50) | self.health.callbacks()
        self._consumer = self._connect()

    @property
    def positions(self) -> dict[Partition, int]:
        """For each partition the offset after all that was returned; behind its last message markers are passed too."""
        return dict(self._positions)

    def poll(self, seconds_max: float = 0.1, records_max: int = _FOLLOWED_RECORDS_MAX) -> list[Message]:
        """What has come, waiting at most so long; may be empty.

        Raises `RefusedError` when Kafka refuses a login or a right, `FatalError` when messages were deleted before they
        were read, or the topic was.
        """
        messages = []
        for message in _consume(self._consumer, records_max, seconds_max):
            error, each, offset = message.error(), partition_of(message), message.offset() or 0
            if error is None:
                messages.append(message)
                self._positions[each] = offset + 1
            elif error.code() == END_OF_PARTITION:
                self._positions[each] = offset
            elif ends_reading(error, joins_group=False):
                raise self._translated(error, each.topic)
        self._check_health()
        return messages

    def has_reached(self, ends: Mapping[Partition, int]) -> bool:
        """Whether everything below these ends was returned."""
        return all(self._positions[each] >= end for each, end in ends.items())

    @property
    def has_reached_first_ends(self) -> bool:
        """Whether everything was returned that was committed at the start; see `waits_for_open`."""
        return self.has_reached(self.first_ends)

    def client_status(self) -> ClientStatus:
        """Kafka as librdkafka reported it last, within `poll`; of the first topic. Every partition is this reader's."""
        partitions = frozenset(each.partition for each in self._positions)
        return ClientStatus(
            partitions=partitions,
            ends=self.health.ends,
            partition_count=len(partitions),
            is_reachable=bool(self.health.is_connected),
            is_member=True,
        )

    def seek(self, offsets: Mapping[Partition, int]) -> None:
        """Go on from there in these partitions."""
        self._positions |= offsets
        self._assign(self._consumer)

    def close(self) -> None:
        """Disconnect from Kafka."""
        self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _connect(self) -> Consumer:
        consumer = create_consumer(self._settings)
        self._assign(consumer)
        return consumer

    def _assign(self, consumer: Consumer) -> None:
        consumer.assign([TopicPartition(*each, offset) for each, offset in self._positions.items()])

    def _check_health(self) -> None:
        health = self.health
        if health.refusal is not None:
            raise self._translated(health.refusal, next(iter(self._positions)).topic)
        was_silent, self._is_silent = self._is_silent, health.are_all_down
        if self._is_silent and not was_silent:
            self._on_silence()
        if health.has_forgotten_brokers:
            _log.info(ALL_FORGOTTEN)
            former, self._consumer = self._consumer, self._connect()
            former.close()
            health.replaced()

    def _translated(self, error: KafkaError, topic: str) -> Exception:
        if error.code() == OUT_OF_RANGE:
            return FatalError(
                f"{topic}: messages were deleted before they were read; see the topic's retention, then begin again"
            )
        return translate_reading(error, topic, self._properties, self.health.reason, role=self._role)


def partition_of(message: Message) -> Partition:
    """The partition that a message came from."""
    return Partition(message.topic() or "", message.partition() or 0)


def _consume(consumer: Consumer, records_max: int, seconds_max: float) -> list[Message]:
    try:
        return consumer.consume(records_max, timeout=seconds_max)
    except KafkaException as error:
        raise RetryableError(f"nothing can be read from Kafka: {error.args[0].name()}") from error


def _check_starts(
    starts: Mapping[Partition, int], begins: Mapping[Partition, int], ends: Mapping[Partition, int]
) -> None:
    for each, start in starts.items():
        begin, end = begins[each], ends[each]
        if begin <= start <= end:
            continue
        what = f"messages from {start} to {begin - 1} are deleted" if start < begin else f"it ends at {end}"
        raise FatalError(
            f"{each.topic}/{each.partition}: reading cannot continue from offset {start}, as {what}; see the topic's "
            "retention and whether it was created again, then begin again"
        )
