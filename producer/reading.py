"""One reading of one trekkpliktig: pages come in, chunks that detection can decide on go out.

A chunk is ready when every version that detection wants for it has been fetched by number. Memory stays bounded: at
most two pages wait, and a chunk wants at most `FETCHES_MAX` versions (or those of one order).
"""

from __future__ import annotations

import sys
from array import array
from collections import deque
from typing import TYPE_CHECKING

from producer.by_number import Following, next_versions, some_missing, vanished
from producer.detect import needed_versions
from producer.domain.detection import is_left, order_key
from producer.domain.trekkpaalegg import Rejected, Trekkpaalegg

if TYPE_CHECKING:
    from collections.abc import Container

    from producer.domain.state import EventCursor, TrekkpliktigState
    from producer.domain.trekkpaalegg import Element, Fetched, Origin
    from producer.source.port import Page

PAGES_WAITING_MAX = 2
FETCHES_MAX = 500


class Reading:
    """State of one reading. `cursor` is where it begins; `full` when it compares everything from 0.

    `found` says whether anything new has come; `wishes` are the ids of those that it is to fulfil; one that is `urgent`
    goes before others. `event_cursor` is how far Altinn had been asked when it began, None where it was not; `is_told`
    whether events wanted the reading.
    """

    def __init__(self, trekkpliktig: str, origin: Origin, cursor: int, signals_begun_at: int, *, full: bool) -> None:
        self.trekkpliktig = trekkpliktig
        self.origin = origin
        self.full = full
        self.begun_at = cursor
        self.wishes: frozenset[str] = frozenset()
        self.found = False
        self.urgent = False
        self.signals_begun_at = signals_begun_at
        self.event_cursor: EventCursor | None = None
        self.is_told = False
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
        self._missing_asked = False
        self._following: Following | None = None

    def next_cursor(self) -> int | None:
        """The cursor to ask the next page with, which then counts as asked; None when none is to be asked now."""
        if self._page_under_way or self._next_cursor is None or len(self._pages) >= PAGES_WAITING_MAX:
            return None
        self._page_under_way = True
        return self._next_cursor

    def take_page(self, page: Page) -> None:
        """A page came."""
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
        """No page will come after those that came; what they hold is published all the same, then the reading fails.

        Else one page that cannot be read would keep back those before it that take longer to decide on.
        """
        self._page_under_way, self._next_cursor, self.failure = False, None, error

    def read_all(self, origin: Origin) -> None:
        """Begin again at 0: what was asked for does not fit what was published."""
        self.full, self.origin, self._next_cursor = True, origin, 0

    def take_version(self, wanted: tuple[str, int], fetched: Fetched) -> None:
        """A version came that had been asked for by number."""
        self._versions_under_way -= 1
        if self._following is not None:
            self._following.take(wanted, fetched)
            return
        self.versions[wanted] = fetched
        if not self.moves_position and isinstance(fetched, Trekkpaalegg | Rejected):
            self.chunk.append(fetched)

    def cut_chunk(
        self, state: TrekkpliktigState, own: Container[str] = (), elements_max: int = sys.maxsize
    ) -> list[tuple[str, int]]:
        """Make the next chunk from what has come; returns the versions to fetch for it. `own` as in `LaneOptions`."""
        if not self._pages:
            ends_well = self.has_all_pages and self.failure is None
            return self._ask_by_number(state, own) if ends_well and self.full else []
        page = self._pages[0]
        count = min(len(page), elements_max)
        while True:
            wanted = needed_versions(state, page[:count])
            if wanted:  # seldom, so that most pages are not gone through for this
                here = [each for each in page[:count] if not is_left(each, self.trekkpliktig, own)]
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
        """Put back what a chunk holds beyond so many elements, unless versions were fetched for it."""
        if self.moves_position and not self.versions and len(self.chunk) > elements_max:
            self._pages.appendleft(self.chunk[elements_max:])
            self.chunk = self.chunk[:elements_max]

    def _ask_by_number(self, state: TrekkpliktigState, own: Container[str]) -> list[tuple[str, int]]:
        """At the end of a full reading: first what was missing, then what follows in orders that the list lacks."""
        self.moves_position = False
        seed = state.position.reconciled_at or 0
        wanted: list[tuple[str, int]] = []
        if not self._missing_asked:
            self._missing_asked = True
            wanted = some_missing(state, seed)
        if not wanted:
            if self._following is None:
                gone = next_versions(state, vanished(state, self._seen), seed)
                self._following, self._seen = Following(gone, self.trekkpliktig, own), array("q")
            wanted = self._following.next_wanted()
            if not wanted:
                self.chunk, self._following.elements = self._following.elements, []
        self._versions_under_way = len(wanted)
        return wanted

    @property
    def moved(self) -> Container[str]:
        """The orders (trekkid) of the chunk that have moved to another of ours."""
        return self._following.moved if self._following is not None else ()

    def elements(self) -> list[Element]:
        """The chunk in the order in which detection wants it."""
        if self.moves_position:
            return self.chunk
        return sorted(self.chunk, key=lambda element: (element.trekkid or "", element.trekkversjon or 0))

    def chunk_done(self) -> None:
        """The chunk was published."""
        self.chunk, self.versions = [], {}

    def replace(self, element: Trekkpaalegg, by: Rejected) -> None:
        """Take a version that cannot be published for one that cannot be understood."""
        self.chunk = [by if each is element else each for each in self.chunk]
        self.versions = {wanted: by if each is element else each for wanted, each in self.versions.items()}

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
        """Whether the source has nothing more to read now."""
        return self._next_cursor is None and not self._page_under_way

    @property
    def is_done(self) -> bool:
        """Whether all that came has been published."""
        return self.has_all_pages and not self._pages and not self.chunk and not self.is_waiting
