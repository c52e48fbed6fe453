"""The source that is asked: cursors and versions by number in, pages and versions read from the API out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from producer.domain.trekkpaalegg import Failed, Gone
from producer.errors import RetryableError
from producer.source.paging import page_of
from producer.source.wire import read_elements, read_trekkpaalegg

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenacity import Retrying

    from producer.domain.trekkpaalegg import Element, Fetched
    from producer.source.client import SkatteetatenClient
    from producer.source.port import Page


class PollingSource:
    """Implements `TrekkpaaleggSource`. Safe for several threads.

    `maks_antall` is the size of page that is asked for; `retries` is how short failures are bridged inside one call.
    """

    def __init__(self, client: SkatteetatenClient, retries: Retrying, *, maks_antall: int = 2500) -> None:
        self._client = client
        self._retries = retries
        self._maks_antall = maks_antall

    def fetch_page(self, trekkpliktig: str, cursor: int) -> Page:
        """As the port says. An answer that cannot be read is asked for again: it may have been damaged on its way."""
        return self._retries(self._fetch_page, trekkpliktig, cursor)

    def fetch_trekkpaalegg(self, trekkpliktig: str, trekkid: str, trekkversjon: int) -> Fetched:
        """As the port says. An answer that names another trekkid or trekkversjon is `Failed`."""
        try:
            fetched = self._retries(self._fetch_trekkpaalegg, trekkpliktig, trekkid, trekkversjon)
        except RetryableError as error:
            return Failed(str(error))
        if isinstance(fetched, Gone) or _is_the_asked_for(fetched, trekkid, trekkversjon):
            return fetched
        return Failed("the answer is another trekkid or trekkversjon than was asked for")

    def preparation(self, trekkpliktig: str) -> Callable[[], object] | None:
        """As the port says: a token, where none is held."""
        if self._client.is_prepared(trekkpliktig):
            return None
        return lambda: self._retries(self._client.prepare, trekkpliktig)

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
