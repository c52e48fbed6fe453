"""The reading of one trekkpliktig: what its list shows differently is handed over, chunk by chunk.

A chunk takes three steps. `KNOW`: that the list shows orders it never showed before is written down, so that they are
followed whatever happens next. `SEND`: what differs is written for the homes of the orders. `REMEMBER`: that it was
handed over is committed, with the position. At most two pages wait, so memory is bounded.
"""

from __future__ import annotations

import enum
import sys
import time
from array import array
from collections import deque
from collections.abc import Callable, Container, Sequence
from typing import TYPE_CHECKING

import msgspec

from producer.detect.differences import absent, differences, digest_of, is_unidentified, lowered, within_limit
from producer.domain.observation import Observation, order_key
from producer.domain.requests import BACKFILL
from producer.domain.trekkpaalegg import Origin, Trekkpaalegg
from producer.publish.port import Row

if TYPE_CHECKING:
    from producer.domain.state import EventCursor, HandedOver, LaneState, TrekkpliktigPosition, TrekkpliktigState
    from producer.domain.trekkpaalegg import Element
    from producer.source.port import Page


PAGES_WAITING_MAX = 2


class Step(enum.Enum):
    """What is done next with a chunk."""

    KNOW = "know"
    KNOWING = "knowing"
    SEND = "send"
    SENDING = "sending"
    REMEMBER = "remember"


class Chunk:
    """Elements that differ from what was handed over, or keys of orders that the list lacks, and how far they are.

    `position` is the sekvensnummer that the list has been read to when the chunk is done. `lowered` is how many of the
    elements have a lower version than was handed over before, `unidentified` how many have no trekkid and are new.
    """

    def __init__(
        self, elements: list[Element], state: TrekkpliktigState, position: int, gone: Sequence[bytes] = ()
    ) -> None:
        self.elements = elements
        self.position = position
        self.gone = gone
        self.new = {key for each in elements if (key := order_key(each)) not in state}
        self.lowered = len(lowered(state, elements))
        self.unidentified = sum(is_unidentified(state, each) for each in elements)
        self.step = Step.KNOW if self.new else Step.SEND if elements or gone else Step.REMEMBER

    def __len__(self) -> int:
        """How many orders it hands over."""
        return len(self.elements) + len(self.gone)

    def handed_over(self) -> dict[bytes, HandedOver]:
        """What is remembered of its orders once it is sent."""
        return {order_key(each): digest_of(each) for each in self.elements}


class Reading:
    """One reading. `cursor` is where it begins; it is `full` if it compares everything from 0.

    With `shows`, the state's `show_since` when it began, everything is handed over, whatever was handed over before.
    `found` says whether anything differed, `lowered` how many lower versions were handed over, and `unrecorded` how
    many elements without trekkid were not, as they were too many. `requests` are the ids of the operator requests that
    it fulfils. An `urgent` reading goes before others. `event_cursor` is how far Altinn's events had been read when it
    began, None where they are not read; `is_notified` says whether such events led to the reading. `began` is when, in
    microseconds since 1970.
    """

    def __init__(
        self, trekkpliktig: str, origin: Origin, cursor: int, signals_begun_at: int, *, full: bool, began: int = 0
    ) -> None:
        self.trekkpliktig = trekkpliktig
        self.origin = origin
        self.full = full
        self.shows: int | None = None
        self.begun_at = cursor
        self.began = began
        self.requests: frozenset[str] = frozenset()
        self.found = False
        self.urgent = False
        self.row = Row.BULK
        self.signals_begun_at = signals_begun_at
        self.event_cursor: EventCursor | None = None
        self.is_notified = False
        self.dropped = False
        self.failure: BaseException | None = None
        self.orders_seen = 0
        self.vanished = 0
        self.lowered = 0
        self.unrecorded = 0
        self.sekvensnummer_max = 0
        self.chunk: Chunk | None = None
        self._next_cursor: int | None = cursor
        self._page_under_way = False
        self._pages: deque[list[Element]] = deque()
        self._seen = array("q")
        self._absent: list[bytes] | None = None

    def begin_page(self) -> int | None:
        """Begin to fetch the next page: returns its cursor, or None if no page is to be fetched now."""
        if self._page_under_way or self._next_cursor is None or len(self._pages) >= PAGES_WAITING_MAX:
            return None
        self._page_under_way = True
        return self._next_cursor

    def add_page(self, page: Page) -> None:
        """Add a fetched page."""
        self._page_under_way = False
        self._next_cursor = page.next_cursor
        self.orders_seen += len(page.elements)
        understood = (each.sekvensnummer for each in reversed(page.elements) if isinstance(each, Trekkpaalegg))
        self.sekvensnummer_max = max(self.sekvensnummer_max, next(understood, 0))
        if page.elements:
            self._pages.append(page.elements)
        if self.full:
            self._seen.extend(hash(order_key(each)) for each in page.elements)

    def page_failed(self, error: BaseException) -> None:
        """No further page is fetched. Those before it are still handed over, and then the reading fails.

        Otherwise a page that cannot be read would hold back earlier pages that take longer.
        """
        self._page_under_way, self._next_cursor, self.failure = False, None, error

    def read_all(self, origin: Origin) -> None:
        """Start again from 0, because the source does not match what was handed over."""
        self.full, self.origin, self.row, self.urgent, self._next_cursor = True, origin, Row.BULK, False, 0

    def cut_chunk(self, state: TrekkpliktigState, elements_max: int = sys.maxsize) -> None:
        """Cut the next chunk from the pages, if there is none now; at the end of a full reading, what the list lacks.

        A rejected element does not move the position: if its number were wrong, all below it would be skipped.
        """
        while self.chunk is None and self._pages:
            page = self._pages[0]
            elements = page[:elements_max]
            if len(page) <= elements_max:
                self._pages.popleft()
            else:
                self._pages[0] = page[elements_max:]
            all_different = differences(state, elements, everything=self.shows is not None)
            different = within_limit(state, all_different, self.began)
            self.unrecorded += len(all_different) - len(different)
            numbers = (each.sekvensnummer for each in elements if isinstance(each, Trekkpaalegg))
            position = max(max(numbers, default=0), state.position.position)
            if different or position > state.position.position:
                self.chunk = Chunk(different, state, position)
                self.found = self.found or bool(different)
        if self.chunk is None and self.full and self.has_all_pages and self.failure is None and self._absent is None:
            self._absent = absent(state, self._seen, self.began)
            self._seen = array("q")
            self.vanished = max(len(state) - self.orders_seen, len(self._absent))
            if self._absent:
                self.chunk = Chunk([], state, state.position.position, self._absent)

    def observations(self) -> list[Observation]:
        """What the chunk hands over."""
        if self.chunk is None:
            return []
        requests = tuple(self.requests)
        shown = [
            Observation(order_key(each), self.trekkpliktig, self.origin, each, requests=requests)
            for each in self.chunk.elements
        ]
        return shown + [Observation(key, self.trekkpliktig, self.origin, requests=requests) for key in self.chunk.gone]

    def advance_chunk(self) -> None:
        """A step of the chunk is done: go on to the next one."""
        if self.chunk is None:
            return
        if self.chunk.step is Step.KNOWING:
            self.chunk.step = Step.SEND
        elif self.chunk.step is Step.SENDING and self.chunk.elements:
            self.chunk.step = Step.REMEMBER
        else:
            self.chunk = None

    @property
    def is_ready(self) -> bool:
        """Whether there is something to commit for the chunk."""
        return self.chunk is not None and self.chunk.step is Step.REMEMBER

    @property
    def has_all_pages(self) -> bool:
        """Whether every page has been fetched."""
        return self._next_cursor is None and not self._page_under_way

    @property
    def is_done(self) -> bool:
        """Whether everything that was fetched has been handed over."""
        ends = self.failure is not None or not self.full or self._absent is not None
        return self.has_all_pages and not self._pages and self.chunk is None and ends


READINGS_MIN = 5
READINGS_MAX = 64
NOTIFIED_MORE_MAX = 64
"""How many more are read at once if they were notified: their readings are short and should not wait."""

ELEMENTS_UNDER_WAY_MAX = 12_500
"""How many orders the concurrent readings of one lane may return, if each returns a page of average size."""

_MICROSECONDS = 1_000_000


class LaneOptions(msgspec.Struct, frozen=True):
    """Options of all lanes. `served` are all trekkpliktige that the application serves; `lanes` is the number of lanes.

    `now` returns microseconds since 1970, `clock` seconds that only ever rise.
    """

    served: Container[str]
    overlap_sekvensnummer: int
    reconcile_interval_seconds: float
    now: Callable[[], int]
    lanes: int = 1
    clock: Callable[[], float] = time.monotonic


def begin_reading(
    trekkpliktig: str, state: LaneState, signals_begun_at: int, options: LaneOptions, *, is_notified: bool = False
) -> Reading:
    """A reading from a little below the position, or a full one if that was requested or is due."""
    position = state.of(trekkpliktig).position
    shows = is_to_show(position, state)
    origin = Origin.RECONCILE if shows else _full_origin(position, options)
    now = options.now()
    if origin is not None:
        reading = Reading(trekkpliktig, origin, 0, signals_begun_at, full=True, began=now)
        # Observations that were lost may have been those of a request whose reading had ended.
        waiting = [request.id for request in position.requests if shows or not request.asked]
        reading.requests, reading.shows = frozenset(waiting), state.show_since if shows else None
        return reading
    cursor = max(position.position - options.overlap_sekvensnummer, 0)
    origin = Origin.NOTIFICATION if is_notified else Origin.POLL
    reading = Reading(trekkpliktig, origin, cursor, signals_begun_at, full=False, began=now)
    if position.reconciled_at is not None:
        reading.row = Row.URGENT  # the first reading of all is a back-fill
    return reading


def is_to_show(position: TrekkpliktigPosition, state: LaneState) -> bool:
    """Whether its list is due to be handed over completely."""
    return state.show_since is not None and (position.shown_at or 0) < state.show_since


def _full_origin(position: TrekkpliktigPosition, options: LaneOptions) -> Origin | None:
    """The origin of a full reading; None if no full reading is needed.

    A time in the future was told by a clock that was ahead, so that the next comparison is due now.
    """
    requests = [request for request in position.requests if not request.asked]
    if requests:
        return Origin.BACKFILL if requests[0].kind == BACKFILL else Origin.RECONCILE
    if position.reconciled_at is None:
        return None
    ago = options.now() - position.reconciled_at
    return Origin.RECONCILE if ago < 0 or ago >= options.reconcile_interval_seconds * _MICROSECONDS else None


def readings_allowed(elements_per_page: float) -> int:
    """How many trekkpliktige a lane may read at once: many if each has few orders, few if pages are full."""
    return int(min(max(ELEMENTS_UNDER_WAY_MAX / max(elements_per_page, 1.0), READINGS_MIN), READINGS_MAX))


def is_urgent(reading: Reading, *, is_waited_for: bool) -> bool:
    """Whether a reading has priority: a wake-up waits for it, and it is short.

    The first reading of a trekkpliktig is a back-fill, even if a notification led to it.
    """
    return is_waited_for and reading.row is Row.URGENT


def position_has_gone(reading: Reading, position: TrekkpliktigPosition) -> bool:
    """Whether the page just added shows that the order at the position has vanished from the source.

    That order lies in the overlap (if there is one), so the first page should not be empty. The source may have started
    its numbers again; only a full comparison can tell.
    """
    return (
        reading.has_all_pages and not reading.full and not reading.orders_seen and reading.begun_at < position.position
    )


def position_after(reading: Reading, position: TrekkpliktigPosition, now: int) -> TrekkpliktigPosition:
    """The position after a reading has ended, with the times of the last full comparison and of the last showing.

    A position above everything that the source has is lowered, but only after a full reading. What was to be shown by
    the time when the reading began is shown; what was requested since needs another.
    """
    replace = msgspec.structs.replace
    if reading.full and reading.sekvensnummer_max < position.position:
        position = replace(position, position=reading.sekvensnummer_max)
    if reading.full or position.reconciled_at is None:
        position = replace(position, reconciled_at=now)
    if reading.shows is not None:
        position = replace(position, shown_at=reading.shows)
    return position
