"""The events of the simulated Altinn, in the order in which they were registered, for callers that pull them."""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

import msgspec

from sandbox.skatteetaten.generate import synthetic_uuid

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

Event = dict[str, Any]
RESOURCE = "urn:altinn:resource:ske-informasjon-om-trekkpaalegg"
ORGANISATION = "urn:altinn:organization:identifier-no:"
CREATED = "dialogporten.dialog.created.v1"
UPDATED = "dialogporten.dialog.updated.v1"
SEEN = "dialogporten.dialog.seen.v1"
VALIDATION = "platform.events.validatesubscription"


def dialog_event(random: Random, base_url: str, trekkpliktig: str, trekkid: str, kind: str, now: float) -> Event:
    """The event that Dialogporten would send of the dialog of one order. It names the employer, but not the change."""
    dialog_id = str(uuid5(NAMESPACE_URL, trekkid))
    return {
        "specversion": "1.0",
        "id": synthetic_uuid(random),
        "type": kind,
        "time": datetime.fromtimestamp(now, UTC).isoformat().replace("+00:00", "Z"),
        "resource": RESOURCE,
        "resourceinstance": dialog_id,
        "subject": f"{ORGANISATION}{trekkpliktig}",
        "source": f"{base_url}/dialogporten/api/v1/enduser/dialogs/{dialog_id}",
    }


def validation_event(random: Random, base_url: str, subscription_id: int) -> Event:
    """The event with which Altinn validates a new subscription."""
    return {
        "id": synthetic_uuid(random),
        "source": f"{base_url}/events/api/v1/subscriptions/{subscription_id}",
        "type": VALIDATION,
        "specversion": "1.0",
    }


class Logged(msgspec.Struct, frozen=True):
    """One event with the running number and the time (seconds since 1970) of its registration."""

    number: int
    registered_at: float
    event: Event


class EventLog:
    """Not safe for several threads: the state around it holds the lock."""

    def __init__(self) -> None:
        self._events: list[Logged] = []
        self._by_subject: dict[str, list[Logged]] = {}
        self._numbers: dict[str, int] = {}
        self._next = 1

    def __len__(self) -> int:
        return len(self._events)

    def register(self, event: Event, now: float) -> None:
        """Append an event. An id that is already registered is registered again, under a new number."""
        logged = Logged(self._next, now, event)
        self._next += 1
        self._events.append(logged)
        self._by_subject.setdefault(str(event.get("subject", "")), []).append(logged)
        self._numbers[str(event["id"])] = logged.number

    def forget(self) -> None:
        """Drop all events and ids. A caller that asks after a dropped id gets all later events, from the oldest."""
        self._events.clear()
        self._by_subject.clear()
        self._numbers.clear()

    def after(self, event_id: str, subject: str | None) -> Iterator[Logged]:
        """Events registered after this one. After an unknown id all are returned, from the oldest, as Altinn does."""
        number = self._numbers.get(event_id, 0)
        events = self._events if subject is None else self._by_subject.get(subject, [])
        yield from events[bisect_right(events, number, key=lambda logged: logged.number) :]
