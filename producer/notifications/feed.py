"""Altinn events, polled: pages of them after a cursor, and the wake-ups in them.

What Altinn's pages are like: in the order in which events were registered; short or empty although there is more,
since what the caller may not see is left out after a page was cut; and from the oldest event on where `after` is an id
that Altinn does not know (any more). So the end is where a page neither holds anything nor leads on, never a short one.
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
"""So much older than the newest event seen may one be that comes after it: events are not in the order of their times.
"""


class EventPage(msgspec.Struct, frozen=True):
    """One answer: its events, each as it was sent, and the id after which `next` goes on, None where it leads nowhere.

    Of `next` only that id is used: a token is sent to no address but the configured one.
    """

    elements: list[bytes]
    next_after: str | None


def page_of(answer: HttpResponse) -> EventPage:
    """The page that an answer holds. Raises `RetryableError` for one that is no JSON array or is cut off."""
    elements = split_elements(answer.body, answer.content_type)
    try:
        told = parse_qs(urlsplit(str(answer.headers.get("next", ""))).query).get("after")
    except ValueError:
        told = None
    return EventPage(elements, told[0] if told else None)


class Walk:
    """One walk from a cursor to the end, page by page. `cursor` is where the next page is asked after."""

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
        """The page that was asked for after `cursor`.

        1. Count each event, and keep the wake-ups.
        2. Events much older than the newest one seen before: Altinn did not know the cursor and began at its oldest.
           They wake all the same; one reading is all that it costs.
        3. Go on after the id that `next` tells, else after the last event that has one.
        4. An empty page that leads nowhere new is the end. So is one with events that leads to where this walk has
           been: Altinn does not know the ids that it tells itself, and would begin anew for ever.
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
        """What has come so far."""
        return Pulled(
            notifications=tuple(self._notifications),
            cursor=self.cursor,
            outcomes=dict(self._outcomes),
            has_more=not self.is_at_end,
            restarted=self._restarted,
            stuck=self._stuck,
        )

    def _count(self, page: EventPage) -> tuple[str | None, list[int]]:
        """The last id of the page, and the times that its events tell."""
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

    def pull(self, trekkpliktig: str, cursor: EventCursor, served: Container[str]) -> Pulled:
        """As the port says. What came before a page that failed is given; the failure shows again at the next call."""
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
