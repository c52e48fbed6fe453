"""The two event topics in, read together from where the last reading ended; their history and current state out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol, Self

from consumers.verify.events import EventReader
from consumers.verify.findings import Check
from consumers.verify.history import Current, History, Message
from consumers.verify.reading import CommittedReader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from confluent_kafka import Message as KafkaMessage

    from consumers.verify.events import PlainValues


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


Ends = dict[int, int]
"""By partition."""


class EventTopics:
    """Both event topics of one prefix, as far as they have been read. Close it, or use it as a context.

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
        """Keys, as text, that hold a national id."""
        return self._version_events.national | self._current_events.national

    def read_to(self, ends: Ends, ends_of_current: Ends) -> None:
        """Read on to these ends: `…-versjoner` first, so that what `…-gjeldende` shows has stood there before."""
        for found in self.versjoner.read_to(ends):
            self._take_versions(found)
            self._progress.advance(len(found))
        for found in self.gjeldende.read_to(ends_of_current):
            self._take_current(found)
            self._progress.advance(len(found))

    def close(self) -> None:
        """Leave Kafka."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

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
