"""An `EventFeed` without Altinn, with events that tests publish."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

from producer.notifications.feed import EventPage, Walk

if TYPE_CHECKING:
    from collections.abc import Container

    from producer.domain.state import EventCursor
    from producer.notifications.port import Pulled
    from sandbox.altinn.event_log import Event
    from trekkpaalegg.errors import TrekkpaaleggError


class FakeEventFeed:
    """Implements `EventFeed`. It remembers its calls; `refusals` are raised for a trekkpliktig until cleared."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: list[Event] = []
        self.refusals: dict[str, TrekkpaaleggError] = {}
        self.pulls: list[tuple[str, str]] = []
        """The calls: trekkpliktig, and the id after which events were requested."""

    def publish(self, event: Event) -> None:
        """Publish an event."""
        with self._lock:
            self._events.append(event)

    def forget(self) -> None:
        """Forget all events and their ids."""
        with self._lock:
            self._events.clear()

    def pull(self, trekkpliktig: str, cursor: EventCursor, served: Container[str]) -> Pulled:
        """See the port."""
        with self._lock:
            self.pulls.append((trekkpliktig, cursor.after))
            if trekkpliktig in self.refusals:
                raise self.refusals[trekkpliktig]
            ids = [event["id"] for event in self._events]
            start = ids.index(cursor.after) + 1 if cursor.after in ids else 0
            mine = [event for event in self._events[start:] if str(event.get("subject", "")).endswith(trekkpliktig)]
        walk = Walk(cursor, served)
        walk.add(EventPage([json.dumps(event).encode() for event in mine], None))
        walk.add(EventPage([], None))
        return walk.pulled()
