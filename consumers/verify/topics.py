"""The checks of the event topics against each other and against the producer's state.

The topics are read at different moments: while a producer is at work, a transaction is visible in one of them a moment
before the other. So suspected differences are checked again after every transaction that was open then has ended, and
count only if they remain. A difference that appears only at the last check is left out: it would have to be checked
again, and a producer that never rests would keep that from ending.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Self

from consumers.verify.events import EventReader
from consumers.verify.findings import POSITIONS, Check, Difference
from consumers.verify.history import Current, History, TopicMessage, complete
from consumers.verify.places import identity, places
from consumers.verify.positions import Positions
from consumers.verify.reading import CommittedReader, describe_topics
from trekkpaalegg.errors import UnknownTopicError
from trekkpaalegg.kafka.properties import kafka_properties

if TYPE_CHECKING:
    from collections.abc import Mapping

    from confluent_kafka import Message as KafkaMessage

    from consumers.settings.model import Settings
    from consumers.verify.events import PlainValues
    from consumers.verify.findings import Progress

OnVersion = Callable[[History, TopicMessage, dict[str, Any], bool], None]
"""Called with each message of `…-versjoner` after it was added to the history, and whether its version is new."""

OnCurrent = Callable[[TopicMessage, dict[str, Any]], None]
"""Called with each message of `…-gjeldende`."""


Ends = dict[int, int]
"""By partition."""


class EventTopics:
    """The two event topics of one prefix, as far as they have been read. Close it, or use it as a context.

    Raises what `CommittedReader` and the schema source raise.
    """

    def __init__(
        self,
        properties: Mapping[str, str],
        prefix: str,
        values: PlainValues,
        progress: Progress,
        *,
        with_headers: bool = True,
        on_version: OnVersion | None = None,
        on_current: OnCurrent | None = None,
    ) -> None:
        """`on_version` and `on_current` are called with each decoded message and all fields of its value."""
        self._progress = progress
        self._with_headers = with_headers
        self._on_version = on_version
        self._on_current = on_current
        with ExitStack() as opened:
            self.versjoner = opened.enter_context(CommittedReader(properties, f"{prefix}-versjoner"))
            self.gjeldende = opened.enter_context(CommittedReader(properties, f"{prefix}-gjeldende"))
            self._opened = opened.pop_all()
        self.history = History(self.versjoner.topic)
        self.current = Current(self.gjeldende.topic, self.history)
        self._version_events = EventReader(self.versjoner.topic, values, whole=on_version is not None)
        self._current_events = EventReader(self.gjeldende.topic, values, whole=on_current is not None)

    @property
    def headers(self) -> Check:
        """The check of headers, keys and values so far."""
        of_versions, of_current = self._version_events.check, self._current_events.check
        return Check(
            of_versions.name,
            of_versions.unit,
            of_versions.examined + of_current.examined,
            of_versions.differences + of_current.differences,
        )

    @property
    def national(self) -> set[str]:
        """Keys, as text, that contain a national id."""
        return self._version_events.national | self._current_events.national

    def read_to(self, ends: Ends, ends_of_current: Ends) -> None:
        """Read to these ends: `…-versjoner` first, because `…-gjeldende` never has a version before it."""
        for found in self.versjoner.read_to(ends):
            self._check_versions(found)
            self._progress.advance(len(found))
        for found in self.gjeldende.read_to(ends_of_current):
            self._check_current(found)
            self._progress.advance(len(found))

    def close(self) -> None:
        """Disconnect from Kafka."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _check_versions(self, found: list[KafkaMessage]) -> None:
        history, events, on_version = self.history, self._version_events, self._on_version
        for each in found:
            message = None
            if not self._with_headers:
                message = events.read_plainly(each)
                if message is not None and not history.is_next(message):
                    message = None
            if message is None:
                message = events.read(each)
            if message is not None:
                is_first = history.add(message)
                if on_version is not None:
                    on_version(history, message, events.fields, is_first)

    def _check_current(self, found: list[KafkaMessage]) -> None:
        current, events, on_current = self.current, self._current_events, self._on_current
        for each in found:
            message = None
            if not self._with_headers:
                message = events.read_plainly(each)
                if message is not None and not current.is_forward(message):
                    message = None
            if message is None:
                message = events.read(each)
            if message is not None:
                current.add(message)
                if on_current is not None:
                    on_current(message, events.fields)


COMPARISONS_MAX = 4
OPEN_SECONDS_MAX = 30.0
"""How long to wait for open transactions; those of the producer last at most half of it."""
_PAUSE_SECONDS = 0.2


Suspect = tuple[str, str, int]
"""Name of the check, trekkid and trekkversjon."""


class TopicReading:
    """All topics of one prefix, as far as they have been read. Close it, or use it as a context.

    Raises as `CommittedReader` and as the schema source.
    """

    def __init__(
        self,
        settings: Settings,
        values: PlainValues,
        progress: Progress,
        *,
        with_headers: bool = True,
        on_version: OnVersion | None = None,
        on_current: OnCurrent | None = None,
    ) -> None:
        self._progress = progress
        self._with_headers = with_headers
        self._application_id = settings.application_id
        self._properties, prefix = kafka_properties(settings), settings.topic_prefix
        properties = self._properties
        with ExitStack() as opened:
            self.topics = opened.enter_context(
                EventTopics(
                    properties,
                    prefix,
                    values,
                    progress,
                    with_headers=with_headers,
                    on_version=on_version,
                    on_current=on_current,
                )
            )
            self._positions_reader: CommittedReader | None = None
            positions = f"{prefix}-positions"
            with suppress(UnknownTopicError):
                self._positions_reader = opened.enter_context(CommittedReader(properties, positions))
            self._opened = opened.pop_all()
        self.positions = Positions(positions)
        self._new_suspects: set[Suspect] = set()

    @property
    def events(self) -> int:
        """How many messages of the event topics have been read."""
        return self.topics.history.events + self.topics.current.events

    def read(self) -> None:
        """Read to the current ends; repeat while a difference may come from a partly visible transaction."""
        self._read_on()
        before = self._suspects()
        for _ in range(COMPARISONS_MAX):
            if not before or not self._has_moved():
                self._new_suspects = set()
                return
            self._wait_for_open()
            self._read_on()
            after = self._suspects()
            self._new_suspects = after - before
            if not self._new_suspects:
                return
            before = after

    def checks(self) -> list[Check]:
        """The checks of the topics, as far as they have been read."""
        history, current = self.topics.history, self.topics.current
        history.once.examined = history.order.examined = history.events
        complete_check = self._without_new(complete(history, self.positions.missing))
        begun_late = [partition for partition, low in self.topics.versjoner.begins.items() if low > 0]
        if begun_late:
            complete_check.notes.append(f"{len(begun_late)} partitions no longer hold their first messages")
        current_check = self._without_new(current.check())
        checks = [history.once, history.order, complete_check, history.corrections, current_check]
        checks += self._checks_with_positions()
        headers = self.topics.headers
        if self._with_headers or not headers.ok:
            checks.append(headers)
        return checks

    def _checks_with_positions(self) -> list[Check]:
        history, current, reader = self.topics.history, self.topics.current, self._positions_reader
        lanes = len(self.topics.versjoner.begins)
        if reader is None:
            lost = Difference("there is no positions topic: what the homes know is lost", place=self.positions.topic)
            check = Check(POSITIONS, "orders", 0, [lost] if history.places else [])
            return [check, places(history, current, self.positions, lanes)]
        recorded = self.positions.identities.get(0)
        if recorded is not None:
            lanes = recorded.lanes
        names = dict.fromkeys((history.topic, current.topic, reader.topic, *(recorded.topics if recorded else ())))
        cluster_id, found, hidden = describe_topics(self._properties, names)
        return [
            self._without_new(self.positions.check(history)),
            places(history, current, self.positions, lanes),
            identity(self.positions, cluster_id, found, hidden, self._application_id),
        ]

    def close(self) -> None:
        """Disconnect from Kafka."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _read_on(self) -> None:
        topics = self.topics
        ends, ends_of_current = topics.versjoner.ends(), topics.gjeldende.ends()
        self._progress.expect(topics.versjoner.ahead(ends) + topics.gjeldende.ahead(ends_of_current))
        topics.read_to(ends, ends_of_current)
        if self._positions_reader is not None:
            for found in self._positions_reader.read_to(self._positions_reader.ends()):
                for message in found:
                    self.positions.add(message.partition() or 0, message.key() or b"", message.value())

    def _suspects(self) -> set[Suspect]:
        """Differences that a partly visible transaction may cause."""
        history = self.topics.history
        checks = [complete(history, self.positions.missing), self.topics.current.check()]
        if self._positions_reader is not None:
            checks.append(self.positions.check(history))
        return {_suspect(check, each) for check in checks for each in check.differences}

    def _without_new(self, check: Check) -> Check:
        remaining = [each for each in check.differences if _suspect(check, each) not in self._new_suspects]
        if len(remaining) < len(check.differences):
            check.notes.append(f"{len(check.differences) - len(remaining)} orders changed while they were read")
            check.differences[:] = remaining
        return check

    def _has_moved(self) -> bool:
        """Whether anything was written since, or is being written."""
        return any(reader.ends_with_open() != reader.next for reader in self._readers())

    def _wait_for_open(self) -> None:
        """Wait until the transactions that are open now have ended, or the time is over."""
        wanted = [(reader, reader.ends_with_open()) for reader in self._readers()]
        deadline = time.monotonic() + OPEN_SECONDS_MAX
        while time.monotonic() < deadline:
            wanted = [
                (reader, ends) for reader, ends in wanted if any(reader.ends()[each] < ends[each] for each in ends)
            ]
            if not wanted:
                return
            time.sleep(_PAUSE_SECONDS)

    def _readers(self) -> list[CommittedReader]:
        readers = [self.topics.versjoner, self.topics.gjeldende]
        return [*readers, self._positions_reader] if self._positions_reader is not None else readers


def _suspect(check: Check, difference: Difference) -> Suspect:
    return check.name, difference.trekkid or "", difference.trekkversjon or 0
