"""The source that polls: pages of newest versions and single versions, read from the API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from producer.domain.trekkpaalegg import Failed, Gone, Trekkpaalegg
from producer.source.parse.page import read_elements, read_trekkpaalegg
from producer.source.port import Page
from trekkpaalegg.errors import RetryableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from producer.domain.trekkpaalegg import Element, Fetched
    from producer.source.client import SkatteetatenClient
    from trekkpaalegg.retry import Retry


def page_of(elements: list[Element], cursor: int, maks_antall: int) -> Page:
    """The page that `elements`, the answer to "newer than `cursor`, at most `maks_antall`", make.

    Reading goes on from the highest sekvensnummer in the answer, however many came: a server may cap `maks_antall`
    lower than it was asked. It ends at an answer that holds nothing above the cursor.

    1. Elements above the cursor: go on from the highest that was understood. The number of one that was rejected is
       not believed while there is another, since a wrong one would skip all that lies below it.
    2. None above, and fewer than asked for: the end. Holding the very element at the cursor is what a server does
       that reads `fraSekvensnummer` as inclusive.
    3. None above, but some below the cursor, or a full page: `RetryableError`. Such a server ignores
       `fraSekvensnummer`, or has more that can never be reached; to end here would hide that.
    """
    elements = sorted(elements, key=_order)
    numbers = [element.sekvensnummer for element in elements if element.sekvensnummer is not None]
    understood = [each.sekvensnummer for each in elements if isinstance(each, Trekkpaalegg)]
    highest = max(max(understood, default=0), cursor)
    if highest == cursor:
        highest = max(numbers, default=cursor)
    if highest > cursor:
        return Page(elements, highest)
    if any(number < cursor for number in numbers):
        raise RetryableError("answer holds only what is older than was asked for: fraSekvensnummer seems to be ignored")
    if len(elements) >= maks_antall:
        raise RetryableError("a full answer that holds nothing newer than was asked for: reading cannot go on")
    return Page(elements, None)


def _order(element: Element) -> int:
    return element.sekvensnummer or 0


class PollingSource:
    """Implements `TrekkpaaleggSource`. Safe for several threads.

    `maks_antall` is the size of page that is asked for; `retry` bridges short failures within one call.
    """

    def __init__(self, client: SkatteetatenClient, retry: Retry, *, maks_antall: int = 2500) -> None:
        self._client = client
        self._retry = retry
        self._maks_antall = maks_antall

    def fetch_page(self, trekkpliktig: str, cursor: int) -> Page:
        """As the port says. An answer that cannot be read is asked for again: it may have been damaged on its way."""
        return self._retry(self._fetch_page, trekkpliktig, cursor)

    def fetch_trekkpaalegg(self, trekkpliktig: str, trekkid: str, trekkversjon: int) -> Fetched:
        """As the port says. An answer that names another trekkid or trekkversjon is `Failed`."""
        try:
            fetched = self._retry(self._fetch_trekkpaalegg, trekkpliktig, trekkid, trekkversjon)
        except RetryableError as error:
            return Failed(str(error))
        if isinstance(fetched, Gone) or _is_the_asked_for(fetched, trekkid, trekkversjon):
            return fetched
        return Failed("the answer is another trekkid or trekkversjon than was asked for")

    def preparation(self, trekkpliktig: str) -> Callable[[], object] | None:
        """As the port says: a token, where none is held."""
        if self._client.is_prepared(trekkpliktig):
            return None
        return lambda: self._retry(self._client.prepare, trekkpliktig)

    def _fetch_page(self, trekkpliktig: str, cursor: int) -> Page:
        answer = self._client.fetch_list(trekkpliktig, cursor, self._maks_antall)
        elements = read_elements(answer.body, trekkpliktig, answer.content_type)
        return page_of(elements, cursor, self._maks_antall)

    def _fetch_trekkpaalegg(self, trekkpliktig: str, trekkid: str, trekkversjon: int) -> Element | Gone:
        answer = self._client.fetch_version(trekkpliktig, trekkid, trekkversjon)
        if answer is None:
            return Gone()
        return read_trekkpaalegg(answer.body, trekkpliktig, answer.content_type)


def _is_the_asked_for(element: Element, trekkid: str, trekkversjon: int) -> bool:
    """A `Rejected` whose identity could not be read may be the one; one with another identity is not."""
    return element.trekkid in (trekkid, None) and element.trekkversjon in (trekkversjon, None)
