"""Finds the records of hanging transactions in the partitions of a lane.

Kafka 4.3.1 leaves the markers of a transaction out in partitions that have no leader when it is committed or aborted,
and calls it complete all the same. So it does with what was under way when all copies of a partition went down at
once. Such records are hidden, and hide all that comes behind them, until the next transaction of the same lane in that
partition ends, and stand or fall with that one.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from confluent_kafka import IsolationLevel, KafkaException

from producer.domain.rollback import PublishedEvent
from producer.encode.event import READ_FOR, TREKKPLIKTIG
from producer.errors import OutcomeUnknownError
from producer.publish.port import Record
from producer.publish.reader import CALL_SECONDS_MAX, Place, ends_of, read_stretches
from trekkpaalegg.errors import RetryableError
from trekkpaalegg.kafka.clients import create_admin_client
from trekkpaalegg.kafka.partitioning import lane_of
from trekkpaalegg.kafka.renewal import client_made_later

if TYPE_CHECKING:
    from collections.abc import Mapping

    from confluent_kafka import Message
    from confluent_kafka.admin import AdminClient

    from producer.publish.topics import Topics


def headers_of(message: Message) -> dict[str, bytes]:
    """Its headers, by name."""
    headers: Any = message.headers() or []  # typed as what may be given, too
    return {name: value for name, value in headers if isinstance(value, bytes)}


def trekkpliktig_of(message: Message) -> str | None:
    """For whom an event or a record of the quarantine was read, None where it does not tell."""
    headers = headers_of(message)
    trekkpliktig = headers.get(READ_FOR) or headers.get(TREKKPLIKTIG)
    try:
        return None if trekkpliktig is None else trekkpliktig.decode()
    except UnicodeDecodeError:
        return None


def event_of(message: Message, *, is_rejected: bool = False) -> PublishedEvent | None:
    """What an event, or a record of the quarantine, makes the lane hold published; None where it tells nothing."""
    headers = headers_of(message)
    trekkpliktig, key, identity = trekkpliktig_of(message), message.key() or b"", headers.get("ce_id", b"")
    if trekkpliktig is None or not identity:
        return None
    try:
        if is_rejected:
            order = headers.get("ce_subject", b"#" + identity)
            return PublishedEvent(trekkpliktig, order, rejected=bytes.fromhex(identity.decode()))
        trekkversjon, _, number = identity.removeprefix(key + b"/").partition(b"/")
        correction = int(number) if number else None
        return PublishedEvent(trekkpliktig, key, int(trekkversjon), late="ce_late" in headers, correction=correction)
    except ValueError:
        return None


def again(message: Message) -> Record:
    """The same record, to the same partition."""
    return Record(
        message.topic() or "", message.key() or b"", message.value(), headers_of(message), message.partition() or 0
    )


def written_at(message: Message) -> int:
    """In milliseconds since 1970."""
    return message.timestamp()[1]


def identity_of(event: PublishedEvent) -> bytes:
    """Its `ce_id`."""
    identity = b"%s/%d" % (event.order, event.trekkversjon)
    return identity if event.correction is None else b"%s/%d" % (identity, event.correction)


PATIENCE_SECONDS = 3.0
"""For so long a marker may be on its way to the readers, though the fence has waited until it was written."""

SECONDS_MAX = 60.0
"""Longer than transactions of other lanes can stay open; what hangs of theirs their owners see to."""

LOOK_PAUSE_SECONDS = 10.0
LOOK_ANSWER_SECONDS_MAX = 1.0
"""A lane that looks does nothing else meanwhile, and while no broker answers it is in vain."""

PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX = 0.05, 0.4


class Found(NamedTuple):
    """What hangs of a lane: its records by partition, in their order; of one partition all.

    `decided` is up to where in each partition nothing of the lane is open but what hangs; `lanes` how many there are.
    """

    hanging: dict[Place, list[Message]]
    decided: dict[Place, int]
    lanes: int


class Lookout:
    """Looks whether what a lane committed last hangs, once a broker was lost. Used by the lane's thread only."""

    def __init__(self, properties: Mapping[str, str], topics: Topics, lane: int) -> None:
        self._properties = properties
        self._topics = topics
        self._lane = lane
        self._looked_at = float("-inf")

    @property
    def is_due(self) -> bool:
        """Whether the last look was a while ago."""
        return time.monotonic() - self._looked_at >= LOOK_PAUSE_SECONDS

    def look(self) -> None:
        """Return when nothing hangs.

        Raises `OutcomeUnknownError` when something does; `RetryableError` when that cannot be told now.
        """
        self._looked_at = time.monotonic()
        if find_hanging(self._properties, self._topics, self._lane, LOOK_ANSWER_SECONDS_MAX).hanging:
            raise OutcomeUnknownError(f"the last transaction of lane {self._lane} hangs: the lane is taken anew")


def find_hanging(
    properties: Mapping[str, str], topics: Topics, lane: int, answer_seconds_max: float = CALL_SECONDS_MAX
) -> Found:
    """What hangs of the lane. Ask only when no transaction of the lane is under way.

    The first question to Kafka is given up after `answer_seconds_max`. More may hang behind what hangs of other lanes:
    ask again when it is settled. Raises `RetryableError` when Kafka does not answer, or when what is open of other
    lanes hides for too long what becomes of ours, `RefusedError` when a topic may not be read.
    """
    with client_made_later():
        client = create_admin_client(properties)
    try:
        return _find(client, properties, topics, lane, answer_seconds_max)
    except KafkaException as error:
        raise RetryableError(f"what hangs of lane {lane} cannot be told: {error.args[0].name()}") from error


def _find(
    client: AdminClient, properties: Mapping[str, str], topics: Topics, lane: int, answer_seconds_max: float
) -> Found:
    places, lanes = _places(client, topics, lane, answer_seconds_max)
    found = Found({}, {}, lanes)
    written = ends_of(client, places, IsolationLevel.READ_UNCOMMITTED)
    since: dict[tuple[Place, int], float] = {}
    began = time.monotonic()
    pause_seconds = PAUSE_SECONDS_MIN
    while time.monotonic() - began < SECONDS_MAX:
        decided = ends_of(client, written, IsolationLevel.READ_COMMITTED)
        found.decided.update(decided)
        open_at = {place: offset for place, offset in decided.items() if offset < written[place]}
        if not open_at:
            return found
        now = time.monotonic()
        for place, offset in open_at.items():
            since.setdefault((place, offset), now)
        if pause_seconds > PAUSE_SECONDS_MIN:  # most of what is open at first ends in a moment
            own: dict[Place, list[Message]] = {}
            for place, message in read_stretches(properties, open_at, written, "read_uncommitted"):
                if place.topic == topics.positions or _lane_of(message, lanes) == lane:
                    own.setdefault(place, []).append(message)
            written = {place: written[place] for place in own}
            # A partition is decided up to its first record that is not: when that is ours, nobody else will end it.
            first = {place: messages for place, messages in own.items() if messages[0].offset() == open_at[place]}
            if all(now - since[place, open_at[place]] >= PATIENCE_SECONDS for place in first) and (first or not own):
                return found._replace(hanging=first)
        time.sleep(pause_seconds)
        pause_seconds = min(2 * pause_seconds, PAUSE_SECONDS_MAX)
    raise RetryableError(
        f"lane {lane} cannot be worked on: open transactions of other lanes hide what becomes of its own"
    )


def _places(client: AdminClient, topics: Topics, lane: int, answer_seconds_max: float) -> tuple[list[Place], int]:
    """Every partition that the lane writes events and state to, and the number of lanes."""
    found = client.list_topics(timeout=answer_seconds_max).topics
    written = (topics.versjoner, topics.gjeldende, topics.quarantine, topics.positions)
    for topic in written:
        if topic not in found or not found[topic].partitions:
            raise RetryableError(f"what hangs of lane {lane} cannot be told: topic {topic} is not seen")
    places = [Place(topic, partition) for topic in written[:-1] for partition in found[topic].partitions]
    return [Place(topics.positions, lane), *places], len(found[topics.positions].partitions)


def _lane_of(message: Message, lanes: int) -> int | None:
    trekkpliktig = trekkpliktig_of(message)
    return None if trekkpliktig is None else lane_of(trekkpliktig, lanes)
