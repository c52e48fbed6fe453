"""The reading of one trekkpliktig: how it begins, the chunks that it yields, and its position when it ends.

A chunk is ready when every version that detection needs for it has been fetched by number. Memory is bounded: at most
two pages wait, and a chunk needs at most `FETCHES_MAX` versions (or those of one order).
"""

from __future__ import annotations

import sys
from array import array
from collections import deque
from collections.abc import Callable, Collection, Container, Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from producer.detect.by_number import Following, next_versions, some_missing, vanished
from producer.detect.detect import is_left, needed_versions, order_key
from producer.domain.requests import BACKFILL, RequestResult
from producer.domain.trekkpaalegg import Origin, Rejected, Trekkpaalegg

if TYPE_CHECKING:
    from producer.domain.requests import OperatorRequest
    from producer.domain.state import EventCursor, TrekkpliktigPosition, TrekkpliktigState
    from producer.domain.trekkpaalegg import Element, Fetched
    from producer.source.port import Page


PAGES_WAITING_MAX = 2
FETCHES_MAX = 500


class Reading:
    """One reading. `cursor` is where it begins; it is `full` if it compares everything from 0.

    `found` says whether anything new has come. `requests` are the ids of the operator requests that it fulfils. An
    `urgent` reading goes before others. `event_cursor` is how far Altinn's events had been read when it began, None
    where they are not read; `is_notified` says whether such events led to the reading.
    """

    def __init__(self, trekkpliktig: str, origin: Origin, cursor: int, signals_begun_at: int, *, full: bool) -> None:
        self.trekkpliktig = trekkpliktig
        self.origin = origin
        self.full = full
        self.begun_at = cursor
        self.requests: frozenset[str] = frozenset()
        self.found = False
        self.urgent = False
        self.signals_begun_at = signals_begun_at
        self.event_cursor: EventCursor | None = None
        self.is_notified = False
        self.dropped = False
        self.failure: BaseException | None = None
        self.orders_seen = 0
        self.sekvensnummer_max = 0
        self.chunk: list[Element] = []
        self.versions: dict[tuple[str, int], Fetched] = {}
        self.moves_position = True
        self._next_cursor: int | None = cursor
        self._page_under_way = False
        self._pages: deque[list[Element]] = deque()
        self._versions_under_way = 0
        self._seen = array("q")
        self._missing_requested = False
        self._following: Following | None = None

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
        """No further page is fetched. Those before it are still published, and then the reading fails.

        Otherwise a page that cannot be read would hold back earlier pages that take longer to decide on.
        """
        self._page_under_way, self._next_cursor, self.failure = False, None, error

    def read_all(self, origin: Origin) -> None:
        """Start again from 0, because the source does not match what was published."""
        self.full, self.origin, self._next_cursor = True, origin, 0

    def add_version(self, wanted: tuple[str, int], fetched: Fetched) -> None:
        """Add a version that was fetched by number."""
        self._versions_under_way -= 1
        if self._following is not None:
            self._following.add(wanted, fetched)
            return
        self.versions[wanted] = fetched
        if not self.moves_position and isinstance(fetched, Trekkpaalegg | Rejected):
            self.chunk.append(fetched)

    def cut_chunk(
        self, state: TrekkpliktigState, served: Container[str] = (), elements_max: int = sys.maxsize
    ) -> list[tuple[str, int]]:
        """Cut the next chunk from the pages; returns the versions to fetch for it. `served`: see `LaneOptions`."""
        if not self._pages:
            ends_well = self.has_all_pages and self.failure is None
            return self._cut_by_number(state, served) if ends_well and self.full else []
        page = self._pages[0]
        count = min(len(page), elements_max)
        while True:
            wanted = needed_versions(state, page[:count])
            if wanted:  # rare, so most pages are not searched for this
                here = [each for each in page[:count] if not is_left(each, self.trekkpliktig, served)]
                wanted = needed_versions(state, here)
            if len(wanted) <= FETCHES_MAX or count == 1:
                break
            count //= 2
        self.chunk = page[:count]
        if count == len(page):
            self._pages.popleft()
        else:
            self._pages[0] = page[count:]
        self._versions_under_way = len(wanted)
        return wanted

    def shorten_chunk(self, elements_max: int) -> None:
        """Put elements beyond `elements_max` back, unless versions were fetched for the chunk."""
        if self.moves_position and not self.versions and len(self.chunk) > elements_max:
            self._pages.appendleft(self.chunk[elements_max:])
            self.chunk = self.chunk[:elements_max]

    def _cut_by_number(self, state: TrekkpliktigState, served: Container[str]) -> list[tuple[str, int]]:
        """At the end of a full reading: first missing versions, then later versions of orders that the list lacks."""
        self.moves_position = False
        seed = state.position.reconciled_at or 0
        wanted: list[tuple[str, int]] = []
        if not self._missing_requested:
            self._missing_requested = True
            wanted = some_missing(state, seed)
        if not wanted:
            if self._following is None:
                gone = next_versions(state, vanished(state, self._seen), seed)
                self._following, self._seen = Following(gone, self.trekkpliktig, served), array("q")
            wanted = self._following.pop_wanted()
            if not wanted:
                self.chunk, self._following.elements = self._following.elements, []
        self._versions_under_way = len(wanted)
        return wanted

    @property
    def moved(self) -> Container[str]:
        """The orders (trekkid) of the chunk that have moved to another trekkpliktig."""
        return self._following.moved if self._following is not None else ()

    def elements(self) -> list[Element]:
        """The chunk in the order that detection needs."""
        if self.moves_position:
            return self.chunk
        return sorted(self.chunk, key=lambda element: (element.trekkid or "", element.trekkversjon or 0))

    def chunk_done(self) -> None:
        """The chunk was published."""
        self.chunk, self.versions = [], {}

    @property
    def is_ready(self) -> bool:
        """Whether detection can decide on the chunk."""
        return bool(self.chunk) and self._versions_under_way == 0

    @property
    def is_waiting(self) -> bool:
        """Whether versions of the chunk are still being fetched."""
        return self._versions_under_way > 0

    @property
    def has_all_pages(self) -> bool:
        """Whether every page has been fetched."""
        return self._next_cursor is None and not self._page_under_way

    @property
    def is_done(self) -> bool:
        """Whether everything that was fetched has been published."""
        return self.has_all_pages and not self._pages and not self.chunk and not self.is_waiting


READINGS_MIN = 5
READINGS_MAX = 64
NOTIFIED_MORE_MAX = 64
"""How many more are read at once if they were notified: their readings are short and should not wait."""

TRANSACTION_ELEMENTS_MAX = 2_500
TRANSACTION_ELEMENTS_WHEN_URGENT_MAX = 250
"""How many elements that are not urgent a transaction holds, and how many if there was an urgent reading lately:
further urgent ones would wait behind it."""

ELEMENTS_UNDER_WAY_MAX = 12_500
"""How many orders the concurrent readings of one lane may return, if each returns a page of average size."""

ENDS_WAIT_SECONDS_MAX = 0.05

_MICROSECONDS = 1_000_000


class LaneOptions(msgspec.Struct, frozen=True):
    """Options of all lanes. `served` are all trekkpliktige that the application serves; `lanes` is the number of lanes.

    `now` returns microseconds since 1970.
    """

    served: Container[str]
    overlap_sekvensnummer: int
    reconcile_interval_seconds: float
    now: Callable[[], int]
    lanes: int = 1


def begin_reading(
    trekkpliktig: str,
    position: TrekkpliktigPosition,
    signals_begun_at: int,
    options: LaneOptions,
    *,
    is_notified: bool = False,
) -> Reading:
    """A reading from a little below the position, or a full one if that was requested or is due."""
    origin = _full_origin(position, options)
    if origin is not None:
        reading = Reading(trekkpliktig, origin, 0, signals_begun_at, full=True)
        reading.requests = frozenset([request.id for request in position.requests])
        return reading
    cursor = max(position.position - options.overlap_sekvensnummer, 0)
    origin = Origin.NOTIFICATION if is_notified else Origin.POLL
    return Reading(trekkpliktig, origin, cursor, signals_begun_at, full=False)


def _full_origin(position: TrekkpliktigPosition, options: LaneOptions) -> Origin | None:
    """The origin of a full reading; None if no full reading is needed."""
    if position.requests:
        return Origin.BACKFILL if position.requests[0].kind == BACKFILL else Origin.RECONCILE
    interval = options.reconcile_interval_seconds * _MICROSECONDS
    if position.reconciled_at is not None and options.now() - position.reconciled_at >= interval:
        return Origin.RECONCILE
    return None


def readings_allowed(elements_per_page: float) -> int:
    """How many trekkpliktige a lane may read at once: many if each has few orders, few if pages are full."""
    return int(min(max(ELEMENTS_UNDER_WAY_MAX / max(elements_per_page, 1.0), READINGS_MIN), READINGS_MAX))


def ends_wait_seconds(ended: Sequence[Reading], *, others: int) -> float:
    """How long the ends of readings wait for `others`, or for events, to share a transaction with them.

    Urgent readings do not wait: a trekkpliktig that is notified again meanwhile is read again only after its reading
    has ended.
    """
    return ENDS_WAIT_SECONDS_MAX if others and not any(reading.urgent for reading in ended) else 0.0


def transaction_elements(*, is_urgent_recently: bool) -> int:
    """How many elements that are not urgent a transaction may hold."""
    return TRANSACTION_ELEMENTS_WHEN_URGENT_MAX if is_urgent_recently else TRANSACTION_ELEMENTS_MAX


def first_to_publish(
    ready: Sequence[Reading], elements_max: int = TRANSACTION_ELEMENTS_MAX, *, urgent_alone: bool = True
) -> list[Reading]:
    """The readings whose chunks the next transaction holds: the urgent ones alone if there are any, else some of all.

    It holds about `elements_max` elements, since what is notified meanwhile waits behind it. Without `urgent_alone` it
    includes at least one of the others: every second time, so that a stream of notifications does not hold them back
    for ever; see `missed_after`.
    """
    urgent = [reading for reading in ready if reading.urgent]
    others = [reading for reading in ready if not reading.urgent]
    if urgent and urgent_alone:
        return urgent
    first = urgent + others[:1]
    elements = sum(len(reading.chunk) for reading in first)
    for reading in others[1:]:
        elements += len(reading.chunk)
        if elements > elements_max:
            break
        first.append(reading)
    return first


def missed_after(missed: int, ready: Iterable[Reading], chosen: Collection[Reading]) -> int:
    """How many transactions in a row held no reading that is ready and not urgent, after one that holds `chosen`."""
    others = [reading for reading in ready if not reading.urgent]
    return missed + 1 if others and not any(reading in chosen for reading in others) else 0


def is_urgent(reading: Reading, position: TrekkpliktigPosition, *, is_waited_for: bool) -> bool:
    """Whether a reading has priority: a wake-up waits for it, and it is short.

    The first reading of a trekkpliktig is a back-fill, even if a notification led to it.
    """
    return is_waited_for and not reading.full and position.reconciled_at is not None


def position_has_gone(reading: Reading, position: TrekkpliktigPosition) -> bool:
    """Whether the page just added shows that the order at the position has vanished from the source.

    That order lies in the overlap (if there is one), so the first page should not be empty. The source may have started
    its numbers again; only a full comparison can tell.
    """
    return (
        reading.has_all_pages and not reading.full and not reading.orders_seen and reading.begun_at < position.position
    )


def position_after(reading: Reading, position: TrekkpliktigPosition, now: int) -> TrekkpliktigPosition:
    """The position after a reading has ended, with the time of the last full comparison.

    A position above everything that the source has is lowered, but only after a full reading.
    """
    if reading.full and reading.sekvensnummer_max < position.position:
        position = msgspec.structs.replace(position, position=reading.sekvensnummer_max)
    if reading.full or position.reconciled_at is None:
        position = msgspec.structs.replace(position, reconciled_at=now)
    return position


def vanished_of(reading: Reading, known: int) -> int:
    """How many known orders a full reading did not find."""
    return max(known - reading.orders_seen, 0) if reading.full else 0


def results_of(
    reading: Reading, gone: Iterable[OperatorRequest], vanished: int, *, position_lowered: bool
) -> list[RequestResult]:
    """The results of the operator requests that a reading has fulfilled."""
    return [
        RequestResult(
            msgspec.structs.replace(request, orders_read=reading.orders_seen),
            "done",
            vanished=vanished,
            position_lowered=position_lowered,
        )
        for request in gone
    ]
