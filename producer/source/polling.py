"""The source that reads from the API: its paging, its retries, and single versions by number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from producer.domain.trekkpaalegg import Failed, Gone, Trekkpaalegg
from producer.source.parse.page import read_element, read_elements, read_trekkpaalegg
from producer.source.port import Page
from trekkpaalegg.errors import RetryableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from producer.domain.trekkpaalegg import Element, Fetched
    from producer.source.client import SkatteetatenClient
    from trekkpaalegg.retry import Retry


def page_of(elements: list[Element], cursor: int, maks_antall: int) -> Page:
    """The page of these elements, which the API returned as newer than `cursor`, at most `maks_antall`.

    Reading continues from the highest sekvensnummer in the response, however many elements it holds, as a server may
    cap `maks_antall` lower than requested. It ends with a response that holds nothing above the cursor.

    1. Some elements are above the cursor: continue from the highest one that was understood. The number of a rejected
       element is used only if there is no other, as a wrong one would skip everything below it.
    2. None is above the cursor, and there are fewer than requested: the end. A server that reads `fraSekvensnummer` as
       inclusive returns the element at the cursor itself.
    3. None is above the cursor, but some are below it, or the page is full: `RetryableError`. The server ignores
       `fraSekvensnummer`, or has more that cannot be reached; to end here would hide that.
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
        raise RetryableError(
            "the answer holds only older elements than requested: fraSekvensnummer seems to be ignored"
        )
    if len(elements) >= maks_antall:
        raise RetryableError("a full answer without newer elements than requested: reading cannot continue")
    return Page(elements, None)


def _order(element: Element) -> int:
    return element.sekvensnummer or 0


class PollingSource:
    """Implements `TrekkpaaleggSource`. Safe for several threads.

    `maks_antall` is the page size to request; `retry` bridges short failures within one call.
    """

    def __init__(self, client: SkatteetatenClient, retry: Retry, *, maks_antall: int = 2500) -> None:
        self._client = client
        self._retry = retry
        self._maks_antall = maks_antall

    def fetch_page(self, trekkpliktig: str, cursor: int) -> Page:
        """See the port. A response that cannot be read is requested again: it may have been damaged in transit."""
        return self._retry(self._fetch_page, trekkpliktig, cursor)

    def fetch_trekkpaalegg(self, trekkpliktig: str, trekkid: str, trekkversjon: int) -> Fetched:
        """See the port. A response with another trekkid or trekkversjon is `Failed`."""
        try:
            fetched = self._retry(self._fetch_trekkpaalegg, trekkpliktig, trekkid, trekkversjon)
        except RetryableError as error:
            return Failed(str(error))
        if isinstance(fetched, Gone) or _is_requested(fetched, trekkid, trekkversjon):
            return fetched
        return Failed("the answer has another trekkid or trekkversjon than requested")

    def read_element(self, raw: bytes, trekkpliktig: str) -> Element:
        """See the port."""
        return read_element(raw, trekkpliktig)

    def preparation(self, trekkpliktig: str) -> Callable[[], object] | None:
        """See the port: fetch a token, if none is held."""
        if self._client.is_prepared(trekkpliktig):
            return None
        return lambda: self._retry(self._client.prepare, trekkpliktig)

    def _fetch_page(self, trekkpliktig: str, cursor: int) -> Page:
        answer = self._client.fetch_list(trekkpliktig, cursor, self._maks_antall)
        elements = read_elements(answer.body, trekkpliktig, answer.content_type)
        return page_of(elements, cursor, self._maks_antall)

    def _fetch_trekkpaalegg(self, trekkpliktig: str, trekkid: str, trekkversjon: int) -> Element | Gone:
        answer = self._client.fetch_version(trekkpliktig, trekkid, trekkversjon)
        if isinstance(answer, Gone):
            return answer
        return read_trekkpaalegg(answer.body, trekkpliktig, answer.content_type)


def _is_requested(element: Element, trekkid: str, trekkversjon: int) -> bool:
    """Whether it may be the requested version. A `Rejected` element whose identity cannot be read may be it."""
    return element.trekkid in (trekkid, None) and element.trekkversjon in (trekkversjon, None)
