"""Showing events of `<prefix>-versjoner` as they arrive, filtered, one line each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Protocol

import msgspec

from consumers.bootstrap import topic_of
from consumers.tail.readable import ReadableEvent, UndecodableRecord, document_of, line_of
from trekkpaalegg.errors import UndecodableError
from trekkpaalegg.kafka.properties import kafka_properties
from trekkpaalegg.kafka.reader import Follower
from trekkpaalegg.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import Message

    from consumers.settings.model import Settings
    from trekkpaalegg.decode import Decoder
    from trekkpaalegg.event import TrekkpaaleggVersjon

_RETRY = Retry(attempts_max=5, first_pause_seconds_max=1.0)


class Selection(msgspec.Struct, frozen=True):
    """Which events to show; an empty set matches every event."""

    trekkpliktig: frozenset[str] = frozenset()
    trekkid: frozenset[str] = frozenset()
    trekkstatus: frozenset[str] = frozenset()

    def matches(self, event: TrekkpaaleggVersjon) -> bool:
        """Whether the event is to be shown."""
        return (
            (not self.trekkpliktig or event.trekkpliktig in self.trekkpliktig)
            and (not self.trekkid or event.trekkid in self.trekkid)
            and (not self.trekkstatus or event.trekkstatus in self.trekkstatus)
        )


class TailOptions(msgspec.Struct, frozen=True):
    """Where to begin, what to show and when to end; without `events_max` and `until_end` only a signal ends it."""

    selection: Selection = Selection()
    from_beginning: bool = False
    events_max: int | None = None
    until_end: bool = False

    @property
    def has_goal(self) -> bool:
        """Whether it ends without a signal."""
        return self.until_end or self.events_max is not None


class TailTally(msgspec.Struct):
    """How many messages were read, shown, and not decoded."""

    read: int = 0
    shown: int = 0
    undecodable: int = 0

    def __str__(self) -> str:
        text = f"{self.shown} shown of {self.read} read"
        return f"{text}; {self.undecodable} could not be decoded" if self.undecodable else text


class Screen(Protocol):
    """Displays events."""

    def show(self, record: ReadableEvent | UndecodableRecord) -> None:
        """Show an event."""

    def note(self, text: str) -> None:
        """Show a note that is not an event."""


class LineScreen:
    """Writes a line for each event, or with `as_json` one JSON object a line. `width` is as for `line_of`."""

    def __init__(
        self,
        write: Callable[[str], object],
        write_note: Callable[[str], object],
        *,
        as_json: bool = False,
        width: int | None = None,
    ) -> None:
        self._write = write
        self._write_note = write_note
        self._as_json = as_json
        self._width = width

    def show(self, record: ReadableEvent | UndecodableRecord) -> None:
        """See `Screen`."""
        if self._as_json:
            self._write(json.dumps(document_of(record), ensure_ascii=False) + "\n")
        else:
            self._write(line_of(record, self._width) + "\n")

    def note(self, text: str) -> None:
        """See `Screen`."""
        self._write_note(text)


def tail(settings: Settings, decoder: Decoder, options: TailOptions, screen: Screen, tally: TailTally) -> None:
    """Show what fits until there is no more to show by the options; `tally` counts along.

    Raises `FatalError` when the topic cannot be read or a registry is needed and not set, `RetryableError` when Kafka
    does not answer at the start or the registry stays silent.
    """
    topic = topic_of(settings, newest_only=False)

    def report_silence() -> None:
        screen.note("Kafka does not answer; reading continues when it does")

    with Follower(
        kafka_properties(settings),
        [topic],
        "beginning" if options.from_beginning else "end",
        on_silence=report_silence,
    ) as follower:
        start = "its beginning" if options.from_beginning else "now"
        screen.note(f"reading {topic} from {start}{'' if options.has_goal else '; Ctrl-C ends it'}")
        while not _is_done(options, follower, tally):
            for message in follower.poll():
                _show(_decoded(message, topic, decoder), options, screen, tally)
                if tally.shown == options.events_max:
                    break


def _is_done(options: TailOptions, follower: Follower, tally: TailTally) -> bool:
    return tally.shown == options.events_max or (options.until_end and follower.has_reached_first_ends)


def _show(record: ReadableEvent | UndecodableRecord, options: TailOptions, screen: Screen, tally: TailTally) -> None:
    tally.read += 1
    if isinstance(record, UndecodableRecord):
        tally.undecodable += 1
        screen.show(record)
    elif options.selection.matches(record.event):
        tally.shown += 1
        screen.show(record)


def _decoded(message: Message, topic: str, decoder: Decoder) -> ReadableEvent | UndecodableRecord:
    """The event, or why there is none. Raises as `tail`, after several attempts at a silent registry."""
    partition, offset = message.partition() or 0, message.offset() or 0
    try:
        event = _RETRY(decoder.decode_trekkpaalegg_versjon, message.value())
    except UndecodableError as error:
        return UndecodableRecord(topic, partition, offset, str(error))
    return ReadableEvent(topic, partition, offset, _headers(message), event)


def _headers(message: Message) -> dict[str, str]:
    found = message.headers() or []
    pairs = found.items() if isinstance(found, dict) else found
    return {name: value.decode(errors="replace") for name, value in pairs if isinstance(value, bytes)}
