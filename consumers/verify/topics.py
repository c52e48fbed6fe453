"""The checks of the event topics against each other and against the producer's state.

The producer writes one record for each order, in the transaction of its events. See `schemas/order_state.avsc`.

What is read at different moments cannot agree while a producer is at work: a transaction shows in one topic a moment
before the other. So what differs is looked at again, after every transaction that was open then has ended, and counts
only when it still stands. What shows at the last look for the first time is left out: it would have to be looked at
again, and beside a producer that never rests there is no end to that.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any, Self

import fastavro

import schemas
from consumers.verify.event_topics import EventTopics
from consumers.verify.events import SINGLE_OBJECT_MARKER, SINGLE_OBJECT_PREFIX_BYTES
from consumers.verify.findings import POSITIONS, Check, Difference
from consumers.verify.history import complete, shown
from consumers.verify.reading import CommittedReader
from trekkpaalegg.errors import FatalError, UnknownTopicError
from trekkpaalegg.kafka.properties import kafka_properties

if TYPE_CHECKING:
    from collections.abc import Iterable

    from consumers.settings.model import Settings
    from consumers.verify.event_topics import OnCurrent, OnVersion, Progress
    from consumers.verify.events import PlainValues
    from consumers.verify.history import History


_SEPARATOR = b"/"
_ORDER = "order_state"


class KnownMissing:
    """The versions that are known to be missing at the source: an order may stand with several trekkpliktige."""

    def __init__(self) -> None:
        self._runs: dict[bytes, dict[bytes, list[tuple[int, int]]]] = {}
        self._published: dict[bytes, int] = {}
        """The newest version that positions say is published, by state key."""
        self.records = 0

    def take(self, key: bytes, value: bytes | None) -> None:
        """One record, in the order of its partition. Raises `FatalError` for one that is no state record."""
        trekkpliktig, separator, trekkid = key.partition(_SEPARATOR)
        if not separator:
            return
        self.records += 1
        if value is None:
            self._published.pop(key, None)
            self._forget(trekkid, trekkpliktig)
            return
        state = _order_state(value)
        self._published[key] = state["trekkversjon"]
        runs = [(each["first"], each["last"]) for each in state["missing"]]
        if runs:
            self._runs.setdefault(trekkid, {})[trekkpliktig] = runs
        else:
            self._forget(trekkid, trekkpliktig)

    def has(self, key: bytes, trekkversjon: int) -> bool:
        """Whether the version is known to be missing."""
        by_trekkpliktig = self._runs.get(key, {}).values()
        return any(first <= trekkversjon <= last for runs in by_trekkpliktig for first, last in runs)

    def check(self, history: History) -> Check:
        """Whether all that positions say is published stands in the history: an order that was cut off shows here."""
        check = Check(POSITIONS, "orders", len(self._published))
        for key, trekkversjon in self._published.items():
            trekkid = key.partition(_SEPARATOR)[2]
            if trekkversjon == 0:
                continue
            place = history.places.get(trekkid)
            if place is None:
                check.add(Difference("published as positions say, and not in versjoner", shown(trekkid), trekkversjon))
            elif not history.has(place, trekkversjon):
                newest = history.newest[place]
                what = f"published as positions say, and versjoner end at {newest}"
                check.add(Difference(what, shown(trekkid), trekkversjon))
        return check

    def _forget(self, trekkid: bytes, trekkpliktig: bytes) -> None:
        runs = self._runs.get(trekkid)
        if runs is not None:
            runs.pop(trekkpliktig, None)
            if not runs:
                del self._runs[trekkid]


def take_all(known: KnownMissing, records: Iterable[tuple[bytes | None, bytes | None]]) -> None:
    """Several records, as `KnownMissing.take`."""
    for key, value in records:
        known.take(key or b"", value)


def _order_state(value: bytes) -> dict[str, Any]:
    prefix = value[:SINGLE_OBJECT_PREFIX_BYTES]
    written, wanted = _reading(prefix)
    try:
        buffer = BytesIO(value)
        buffer.seek(len(prefix))
        return fastavro.schemaless_reader(buffer, written, wanted)  # type: ignore[return-value] # it is a record
    except (EOFError, ValueError, IndexError) as error:
        raise FatalError("a record of the positions topic is cut off or damaged") from error


@cache
def _reading(prefix: bytes) -> tuple[Any, Any]:
    try:
        written = schemas.by_fingerprint(prefix.removeprefix(SINGLE_OBJECT_MARKER))
    except schemas.UnknownSchemaError as error:
        raise FatalError(
            "the positions topic holds a record of no released schema: "
            "was it written by a newer version of the producer, or is the topic another application's?"
        ) from error
    current = schemas.load(_ORDER)
    if written.name != _ORDER:
        raise FatalError("the positions topic holds another record where the state of an order should be")
    return written.parsed, None if written.fingerprint == current.fingerprint else current.parsed


LOOKS_MAX = 4
OPEN_SECONDS_MAX = 30.0
"""How long an open transaction is waited for; the producer's last at most half of it."""
_PAUSE_SECONDS = 0.2


Suspect = tuple[str, str, int]
"""Name of the check, trekkid and trekkversjon."""


class TopicReading:
    """The topics of one prefix, as far as they have been read. Close it, or use it as a context.

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
        properties, prefix = kafka_properties(settings), settings.topic_prefix
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
            self.positions: CommittedReader | None = None
            try:
                self.positions = opened.enter_context(CommittedReader(properties, f"{prefix}-positions"))
            except UnknownTopicError:
                self.positions = None
            self._opened = opened.pop_all()
        self.known = KnownMissing()
        self._seen_once: set[Suspect] = set()

    @property
    def events(self) -> int:
        """Messages of the event topics that have been read."""
        return self.topics.history.events + self.topics.current.events

    def read(self) -> None:
        """Read to the ends of now; then look again as long as what differs may be a transaction half seen."""
        self._read_on()
        before = self._suspicious()
        for _ in range(LOOKS_MAX):
            if not before or not self._has_moved():
                self._seen_once = set()
                return
            self._wait_for_open()
            self._read_on()
            after = self._suspicious()
            self._seen_once = after - before
            if not self._seen_once:
                return
            before = after

    def checks(self) -> list[Check]:
        """What the topics show, as far as they have been read."""
        history, current = self.topics.history, self.topics.current
        history.once.examined = history.order.examined = history.events
        complete_check = self._without_seen_once(complete(history, self.known.has))
        begun_late = [partition for partition, low in self.topics.versjoner.begins.items() if low > 0]
        if begun_late:
            complete_check.notes.append(f"{len(begun_late)} partitions no longer hold their first messages")
        current_check = self._without_seen_once(current.check())
        checks = [history.once, history.order, complete_check, history.corrections, current_check]
        if self.positions is None:
            complete_check.notes.append("there is no positions topic: nothing is known to be missing")
        else:
            checks.append(self._without_seen_once(self.known.check(history)))
        headers = self.topics.headers
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
        topics = self.topics
        ends, ends_of_current = topics.versjoner.ends(), topics.gjeldende.ends()
        self._progress.expect(topics.versjoner.ahead(ends) + topics.gjeldende.ahead(ends_of_current))
        topics.read_to(ends, ends_of_current)
        if self.positions is not None:
            for found in self.positions.read_to(self.positions.ends()):
                for message in found:
                    self.known.take(message.key() or b"", message.value())

    def _suspicious(self) -> set[Suspect]:
        """What may differ only because a transaction was half seen."""
        history = self.topics.history
        checks = [complete(history, self.known.has), self.topics.current.check(), self.known.check(history)]
        return {_suspect(check, each) for check in checks for each in check.differences}

    def _without_seen_once(self, check: Check) -> Check:
        standing = [each for each in check.differences if _suspect(check, each) not in self._seen_once]
        if len(standing) < len(check.differences):
            check.notes.append(f"{len(check.differences) - len(standing)} orders changed while they were read")
            check.differences[:] = standing
        return check

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
        readers = [self.topics.versjoner, self.topics.gjeldende]
        return [*readers, self.positions] if self.positions is not None else readers


def _suspect(check: Check, difference: Difference) -> Suspect:
    return check.name, difference.trekkid or "", difference.trekkversjon or 0
