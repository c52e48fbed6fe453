"""One reading of one trekkpliktig: pages come in, chunks that detection can decide on go out.

A chunk is ready when every version that detection wants for it has been fetched by number. Memory stays bounded: at
most two pages wait, and a chunk wants at most `FETCHES_MAX` versions (or those of one order).
"""

from __future__ import annotations

from collections import deque
from random import Random
from typing import TYPE_CHECKING

from producer.detect import needed_versions
from producer.domain.trekkpaalegg import Rejected, Trekkpaalegg

if TYPE_CHECKING:
    from producer.domain.state import TrekkpliktigState
    from producer.domain.trekkpaalegg import Element, Fetched, Origin
    from producer.source.port import Page

PAGES_WAITING_MAX = 2
FETCHES_MAX = 500
MISSING_PER_RANGE_MAX = 100
MISSING_MAX = 1000


def some_missing(state: TrekkpliktigState, seed: int) -> list[tuple[str, int]]:
    """At most `MISSING_MAX` missing versions (trekkid, trekkversjon), at most `MISSING_PER_RANGE_MAX` of a range.

    Where there are more, those that follow a place chosen by `seed`: else many that are gone for good would keep all
    others from ever being asked for. Of a long range the newest are taken, as a released jump may span a billion.
    """
    ranges = [(key, max(first, last - MISSING_PER_RANGE_MAX + 1), last) for key, first, last in state.missing()]
    total = sum(last - first + 1 for _, first, last in ranges)
    skipped = Random(seed).randrange(total) if total > MISSING_MAX else 0  # noqa: S311 - spreads calls, guards nothing
    wanted: list[tuple[str, int]] = []
    for key, first, last in (*ranges, *ranges):
        begin = min(first + skipped, last + 1)
        skipped -= begin - first
        end = min(last + 1, begin + min(MISSING_MAX, total) - len(wanted))
        wanted += [(key.decode(), trekkversjon) for trekkversjon in range(begin, end)]
    return wanted


class Reading:
    """State of one reading. `cursor` is where it begins; `full` when it compares everything from 0."""

    def __init__(self, trekkpliktig: str, origin: Origin, cursor: int, signals_begun_at: int, *, full: bool) -> None:
        self.trekkpliktig = trekkpliktig
        self.origin = origin
        self.full = full
        self.begun_at = cursor
        self.signals_begun_at = signals_begun_at
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
        self._missing_asked = False

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
        self.versions[wanted] = fetched
        if not self.moves_position and isinstance(fetched, Trekkpaalegg | Rejected):
            self.chunk.append(fetched)

    def cut_chunk(self, state: TrekkpliktigState) -> list[tuple[str, int]]:
        """Make the next chunk from what has come; returns the versions to fetch for it."""
        if not self._pages:
            ends_well = self.has_all_pages and self.failure is None
            return self._ask_for_missing(state) if ends_well and self.full else []
        page = self._pages[0]
        count = len(page)
        while True:
            wanted = needed_versions(state, page[:count])
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

    def _ask_for_missing(self, state: TrekkpliktigState) -> list[tuple[str, int]]:
        """At the end of a full reading: the versions that are known to exist and could not be had so far."""
        if self._missing_asked:
            return []
        self._missing_asked, self.moves_position = True, False
        wanted = some_missing(state, seed=state.position.reconciled_at or 0)
        self._versions_under_way = len(wanted)
        return wanted

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
