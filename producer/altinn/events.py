"""A trekkpliktig and a cursor in, what has happened for it since out: Altinn Events, asked instead of called by it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

import structlog

from producer.altinn.client import Question
from producer.altinn.event import ORGANISATION, RESOURCE
from producer.altinn.paging import Walk, page_of
from producer.errors import RetryableError

if TYPE_CHECKING:
    from collections.abc import Container

    from producer.altinn.client import AltinnClient
    from producer.altinn.port import Pulled
    from producer.domain.state import EventCursor

_PATH: Final = "/events/api/v1/events"
PAGE_EVENTS: Final = 1000
"""The most that Altinn gives at a time."""
PAGES_MAX: Final = 20
"""Of one call; the next call goes on."""
_log = structlog.get_logger(__name__)


class AltinnEventFeed:
    """Implements `EventFeed`. Safe for several threads."""

    def __init__(self, client: AltinnClient, *, page_events: int = PAGE_EVENTS, pages_max: int = PAGES_MAX) -> None:
        self._client = client
        self._page_events = page_events
        self._pages_max = pages_max

    def pull(self, trekkpliktig: str, cursor: EventCursor, own: Container[str]) -> Pulled:
        """As the port says. What came before a page that failed is given; the failure shows again at the next call."""
        walk = Walk(cursor, own)
        for page_number in range(self._pages_max):
            try:
                walk.take(page_of(self._client.ask(trekkpliktig, self._question(trekkpliktig, walk.cursor.after))))
            except RetryableError:
                if page_number == 0:
                    raise
                break
            if walk.is_at_end:
                break
        pulled = walk.pulled()
        if pulled.restarted or pulled.stuck:
            _log.warning(
                "Altinn does not know the cursor and began at its oldest event",
                trekkpliktig=trekkpliktig,
                at_every_page=pulled.stuck,
            )
        return pulled

    def _question(self, trekkpliktig: str, after: str) -> Question:
        parameters = {
            "resource": RESOURCE,
            "subject": f"{ORGANISATION}{trekkpliktig}",
            "after": after,
            "size": str(self._page_events),
        }
        return Question("list events", "GET", f"{_PATH}?{urlencode(parameters)}")
