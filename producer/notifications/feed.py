"""Altinn events, polled: the pages after a cursor, and the notifications in them.

Altinn returns events in the order in which they were registered. A page may be short or empty although there are more
events, because events that the caller may not see are removed after the page was cut. If Altinn does not know the id
in `after` (any more), it starts at its oldest event. So the end is a page that is empty and does not lead on; a short
page is not the end.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlencode, urlsplit

import msgspec
import structlog

from producer.notifications.client import AltinnRequest
from producer.notifications.event import ORGANISATION, RESOURCE, Notification, read_pulled
from producer.notifications.port import Pulled
from producer.source.parse.page import split_elements
from trekkpaalegg.errors import RetryableError

if TYPE_CHECKING:
    from collections.abc import Container

    from producer.domain.state import EventCursor
    from producer.notifications.client import AltinnClient
    from producer.source.http import HttpResponse


RESTART_MARGIN_MICROSECONDS: Final = 600 * 1_000_000
"""How much older than the newest event a later one may be, since events are not in the order of their times."""


class EventPage(msgspec.Struct, frozen=True):
    """One response: its events, each as it was sent, and the id after which `next` continues, None if it does not.

    Only that id of `next` is used, so that a token is never sent to another host than the configured one.
    """

    elements: list[bytes]
    next_after: str | None


def page_of(answer: HttpResponse) -> EventPage:
    """The page in a response. Raises `RetryableError` if it is not a JSON array or is cut off."""
    elements = split_elements(answer.body, answer.content_type)
    try:
        after = parse_qs(urlsplit(str(answer.headers.get("next", ""))).query).get("after")
    except ValueError:
        after = None
    return EventPage(elements, after[0] if after else None)


class Walk:
    """One walk from a cursor to the end, page by page. The next page is the one after `cursor`."""

    def __init__(self, cursor: EventCursor, served: Container[str]) -> None:
        self.cursor = cursor
        self._served = served
        self._asked: set[str] = set()
        self._notifications: list[Notification] = []
        self._outcomes: Counter[str] = Counter()
        self._restarted = False
        self._stuck = False
        self.is_at_end = False

    def add(self, page: EventPage) -> None:
        """Add the page after `cursor`.

        1. Count each event, and keep the notifications.
        2. If events are much older than the newest one before, Altinn did not know the cursor and started at its oldest
           event. They count as notifications all the same, which costs one reading.
        3. Continue after the id in `next`, otherwise after the last event that has an id.
        4. An empty page that leads nowhere new is the end. So is a page with events that leads back to where this walk
           has been: Altinn does not know the ids that it returned itself, and would start again forever.
        """
        self._asked.add(self.cursor.after)
        last_id, times = self._count(page)
        newest_at = self.cursor.newest_at
        if newest_at is not None and times and min(times) < newest_at - RESTART_MARGIN_MICROSECONDS:
            self._restarted = True
        after = page.next_after or last_id or self.cursor.after
        newest = max([*times, newest_at] if newest_at is not None else times, default=None)
        if after in self._asked:
            self.is_at_end = True
            self._stuck = bool(page.elements)
            after = self.cursor.after
        self.cursor = msgspec.structs.replace(self.cursor, after=after, newest_at=newest)

    def pulled(self) -> Pulled:
        """The result so far."""
        return Pulled(
            notifications=tuple(self._notifications),
            cursor=self.cursor,
            outcomes=dict(self._outcomes),
            has_more=not self.is_at_end,
            restarted=self._restarted,
            stuck=self._stuck,
        )

    def _count(self, page: EventPage) -> tuple[str | None, list[int]]:
        """The last id of the page, and the times of its events."""
        last_id, times = None, []
        for element in page.elements:
            incoming, event_id = read_pulled(element, self._served)
            self._outcomes[incoming.outcome] += 1
            last_id = event_id or last_id
            happened_at = getattr(incoming, "happened_at", None)
            if happened_at is not None:
                times.append(happened_at)
            if isinstance(incoming, Notification):
                self._notifications.append(incoming)
        return last_id, times


_PATH: Final = "/events/api/v1/events"
PAGE_EVENTS: Final = 1000
"""The most that Altinn returns at a time."""
PAGES_MAX: Final = 20
"""Pages of one call; the next call continues."""
_log = structlog.get_logger(__name__)


class AltinnEventFeed:
    """Implements `EventFeed`. Safe for several threads."""

    def __init__(self, client: AltinnClient, *, page_events: int = PAGE_EVENTS, pages_max: int = PAGES_MAX) -> None:
        self._client = client
        self._page_events = page_events
        self._pages_max = pages_max

    def pull(self, trekkpliktig: str, cursor: EventCursor, served: Container[str]) -> Pulled:
        """See the port. Pages before one that failed are returned; the failure recurs at the next call."""
        walk = Walk(cursor, served)
        for page_number in range(self._pages_max):
            try:
                walk.add(page_of(self._client.send(trekkpliktig, self._request(trekkpliktig, walk.cursor.after))))
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

    def _request(self, trekkpliktig: str, after: str) -> AltinnRequest:
        parameters = {
            "resource": RESOURCE,
            "subject": f"{ORGANISATION}{trekkpliktig}",
            "after": after,
            "size": str(self._page_events),
        }
        return AltinnRequest("list events", "GET", f"{_PATH}?{urlencode(parameters)}")
