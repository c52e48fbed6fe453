"""The event topics and the positions in; history, current state and what is known to be missing out, read to the end.

What is read at different moments cannot agree while a producer is at work: a transaction shows in one topic a moment
before the other. So what differs is looked at again, after every transaction that was open then has ended, and counts
only when it still stands.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol, Self

from consumers.verify.current import Current
from consumers.verify.events import EventReader
from consumers.verify.findings import Check
from consumers.verify.history import History, Message, complete
from consumers.verify.positions import KnownMissing
from consumers.verify.reading import CommittedReader, UnknownTopicError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from confluent_kafka import Message as KafkaMessage

    from consumers.verify.values import PlainValues

LOOKS_MAX = 4
OPEN_SECONDS_MAX = 30.0
"""How long an open transaction is waited for; the producer's last at most half of it."""
_PAUSE_SECONDS = 0.2


class Progress(Protocol):
    """Where the work is told of."""

    def expect(self, messages: int) -> None:
        """So many more messages are to be read."""

    def advance(self, messages: int) -> None:
        """So many more have been read."""


OnVersion = Callable[[History, Message, dict[str, Any], bool], None]
"""Told each message of `…-versjoner` that the history has taken, and whether that version came for the first time."""

OnCurrent = Callable[[Message, dict[str, Any]], None]
"""Told each message of `…-gjeldende`."""


class TopicReading:
    """The topics of one prefix, as far as they have been read. Close it, or use it as a context.

    Raises as `CommittedReader` and as the schema source.
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
        """`on_version` and `on_current` are told each message that can be read, with all fields of its value."""
        self._progress = progress
        self._with_headers = with_headers
        self._on_version = on_version
        self._on_current = on_current
        with ExitStack() as opened:
            self.versjoner = opened.enter_context(CommittedReader(properties, f"{prefix}-versjoner"))
            self.gjeldende = opened.enter_context(CommittedReader(properties, f"{prefix}-gjeldende"))
            self.positions: CommittedReader | None = None
            try:
                self.positions = opened.enter_context(CommittedReader(properties, f"{prefix}-positions"))
            except UnknownTopicError:
                self.positions = None
            self._opened = opened.pop_all()
        self.history = History(self.versjoner.topic)
        self.current = Current(self.gjeldende.topic, self.history)
        self.known = KnownMissing()
        self._version_events = EventReader(self.versjoner.topic, values, whole=on_version is not None)
        self._current_events = EventReader(self.gjeldende.topic, values, whole=on_current is not None)

    @property
    def events(self) -> int:
        """Messages of the event topics that have been read."""
        return self.history.events + self.current.events

    @property
    def national(self) -> set[str]:
        """Keys, as text, that hold a national id."""
        return self._version_events.national | self._current_events.national

    def read(self) -> None:
        """Read to the ends of now; then look again as long as what differs may be a transaction half seen."""
        self._read_on()
        before = self._suspicious()
        for _ in range(LOOKS_MAX):
            if not before or not self._has_moved():
                return
            self._wait_for_open()
            self._read_on()
            after = self._suspicious()
            if after == before:
                return
            before = after

    def checks(self) -> list[Check]:
        """What the topics show, as far as they have been read."""
        history = self.history
        history.once.examined = history.order.examined = history.events
        complete_check = complete(history, self.known.has)
        begun_late = {partition: low for partition, low in self.versjoner.begins.items() if low > 0}
        if begun_late:
            complete_check.notes.append(f"{len(begun_late)} partitions no longer hold their first messages")
        checks = [history.once, history.order, complete_check, history.corrections, self.current.check()]
        if self.positions is None:
            complete_check.notes.append("there is no positions topic: nothing is known to be missing")
        else:
            checks.append(self.known.check(history))
        headers = _merged(self._version_events.check, self._current_events.check)
        if self._with_headers or not headers.ok:
            checks.append(headers)
        return checks

    def close(self) -> None:
        """Leave Kafka."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _read_on(self) -> None:
        ends = self.versjoner.ends()
        ends_of_current = self.gjeldende.ends()
        self._progress.expect(_between(self.versjoner, ends) + _between(self.gjeldende, ends_of_current))
        for found in self.versjoner.read_to(ends):
            self._take_versions(found)
            self._progress.advance(len(found))
        for found in self.gjeldende.read_to(ends_of_current):
            self._take_current(found)
            self._progress.advance(len(found))
        if self.positions is not None:
            for found in self.positions.read_to(self.positions.ends()):
                for message in found:
                    self.known.take(message.key() or b"", message.value())

    def _take_versions(self, found: list[KafkaMessage]) -> None:
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
                is_first = history.take(message)
                if on_version is not None:
                    on_version(history, message, events.fields, is_first)

    def _take_current(self, found: list[KafkaMessage]) -> None:
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
                current.take(message)
                if on_current is not None:
                    on_current(message, events.fields)

    def _suspicious(self) -> list[tuple[str, str | None, int | None]]:
        """What may differ only because a transaction was half seen."""
        checks = [complete(self.history, self.known.has), self.current.check(), self.known.check(self.history)]
        return sorted(
            (check.name, each.trekkid or "", each.trekkversjon or 0) for check in checks for each in check.differences
        )

    def _has_moved(self) -> bool:
        """Whether anything has been written since, or is being written."""
        return any(reader.ends_with_open() != reader.next for reader in self._readers())

    def _wait_for_open(self) -> None:
        """Until what is open now has ended, as far as that comes in time."""
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
        readers = [self.versjoner, self.gjeldende]
        return [*readers, self.positions] if self.positions is not None else readers


def _between(reader: CommittedReader, ends: Mapping[int, int]) -> int:
    return sum(max(0, end - reader.next.get(partition, 0)) for partition, end in ends.items())


def _merged(first: Check, second: Check) -> Check:
    return Check(first.name, first.unit, first.examined + second.examined, [*first.differences, *second.differences])
