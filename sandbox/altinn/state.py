"""The state of the simulated Altinn: subscriptions, events, and the deliveries that are due.

Pure but for its lock: time comes from an injected clock, chance from a seed. Every method may be called from any
thread.
"""

from __future__ import annotations

import threading
from collections import Counter
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec

from sandbox.altinn.delivery import Deliveries, Delivery
from sandbox.altinn.event_log import CREATED, UPDATED, EventLog, dialog_event, validation_event
from sandbox.altinn.tokens import AltinnTokenIssuer

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.altinn.event_log import Event
    from sandbox.skatteetaten.order_book import Version

SCOPE = "altinn:events.subscribe"
PAGE_EVENTS_MAX = 1000


class Behaviour(msgspec.Struct, forbid_unknown_fields=True):
    """How Altinn answers when nothing goes wrong."""

    notifications: bool = True
    """Whether a new version of an order makes an event."""
    withhold_seconds: float = 30.0
    """Events younger than this are not yet returned to callers that pull; scaled by `time_factor`."""
    time_factor: float = 1.0
    """Scales `withhold_seconds` and the pauses of the retry ladder."""
    page_events_max: int = PAGE_EVENTS_MAX
    """The largest page, whatever the request says."""
    short_page_rate: float = 0.0
    """From 0 to 1: a page is cut short, or is empty, although there is more."""
    next_when_empty: bool = True
    """Whether an empty page has a header `next`."""
    token_life_seconds: float = 1800.0
    push_timeout_seconds: float = 10.0
    push_binary_rate: float = 0.0
    """From 0 to 1: an event is pushed with its attributes in headers (CloudEvents' binary mode)."""


class ApiFault(msgspec.Struct, forbid_unknown_fields=True):
    """An error that the next calls get: `operation` is exchange, subscribe, list, get, delete or events.

    None of both fits any; `times` None: always.
    """

    status: int
    operation: str | None = None
    trekkpliktig: str | None = None
    times: int | None = 1
    retry_after_seconds: int | None = None
    body: str = ""


class EventSubscription(msgspec.Struct, rename="camel"):
    """One subscription, its fields named as on the wire."""

    id: int
    end_point: str
    consumer: str
    created_by: str
    created: str
    resource_filter: str
    subject_filter: str | None = None
    type_filter: str | None = None
    source_filter: str | None = None
    validated: bool = False


class Altinn:
    """Subscriptions, events, deliveries, faults and what was seen. `clock` gives seconds since 1970."""

    def __init__(self, *, seed: int = 0, clock: Callable[[], float], base_url: str = "") -> None:
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        """Called whenever there may be more to push."""
        self.clock = clock
        self.base_url = base_url
        self.random = Random(f"altinn {seed}")
        self.tokens = AltinnTokenIssuer(Random(f"altinn tokens {seed}"), clock)
        self.log = EventLog()
        self.deliveries = Deliveries(Random(f"altinn weather {seed}"))
        self.subscriptions: dict[int, EventSubscription] = {}
        self.refused: set[str] = set()
        self.faults: list[ApiFault] = []
        self.calls: Counter[tuple[str, int]] = Counter()
        self._behaviour = Behaviour()
        self._by_subject: dict[str | None, set[int]] = {}
        self._by_consumer: dict[str, set[int]] = {}
        self._next_id = 1

    @property
    def behaviour(self) -> Behaviour:
        """Set it whole: what pushes keeps the factor of time."""
        return self._behaviour

    @behaviour.setter
    def behaviour(self, behaviour: Behaviour) -> None:
        with self.changed:
            self._behaviour = behaviour
            self.deliveries.time_factor = behaviour.time_factor
            self.changed.notify_all()

    # Events

    def new_version(self, version: Version) -> None:
        """A version of an order has become visible: an event goes out if notifications are on."""
        with self.lock:
            if not self.behaviour.notifications or not version.trekkid:
                return
            kind = CREATED if version.trekkversjon == 1 else UPDATED
            self.emit_event(version.owner, version.trekkid, kind)

    def emit_event(self, trekkpliktig: str, trekkid: str, kind: str, fields: dict[str, Any] | None = None) -> Event:
        """An event of this kind, with `fields` instead of what it would say, goes out and can be pulled."""
        with self.lock:
            now = self.clock()
            event = {**dialog_event(self.random, self.base_url, trekkpliktig, trekkid, kind, now), **(fields or {})}
            self.publish({name: value for name, value in event.items() if value is not None})
            return event

    def publish(self, event: Event) -> None:
        """Register an event, and push it to every validated subscription that it fits."""
        with self.changed:
            now = self.clock()
            self.log.register(event, now)
            subject = event.get("subject")
            for subscription_id in sorted(self._by_subject.get(subject, set()) | self._by_subject.get(None, set())):
                subscription = self.subscriptions[subscription_id]
                if subscription.validated and _fits(subscription, event):
                    self.deliveries.add(Delivery(subscription_id, subscription.end_point, event), now)
            self.changed.notify_all()

    # Subscriptions

    def subscribe(self, party: str, wanted: dict[str, Any]) -> EventSubscription:
        """The subscription of this party with these filters, created if it is new. Sends a validation event."""
        with self.changed:
            filters = {name: wanted.get(f"{name}Filter") or None for name in ("resource", "subject", "type", "source")}
            consumer = f"/organisation/{party}"
            known = [each for each in self.of_party(party) if _same(each, wanted["endPoint"], filters)]
            subscription = known[0] if known else self._made(consumer, wanted["endPoint"], filters)
            self._validate(subscription)
            return subscription

    def of_party(self, party: str) -> list[EventSubscription]:
        """All subscriptions that this party has made."""
        with self.lock:
            numbers = self._by_consumer.get(f"/organisation/{party}", set())
            return [self.subscriptions[number] for number in sorted(numbers)]

    def unsubscribe(self, subscription_id: int) -> None:
        """Drop a subscription, and what was on its way to it. KeyError if there is none."""
        with self.lock:
            subscription = self.subscriptions.pop(subscription_id)
            self._by_subject[subscription.subject_filter].discard(subscription_id)
            self._by_consumer[subscription.consumer].discard(subscription_id)
            self.deliveries.drop(subscription_id)

    def fault_of(self, operation: str, party: str | None) -> ApiFault | None:
        """The fault that strikes this call, used up by asking."""
        with self.lock:
            for fault in self.faults:
                if fault.operation in (None, operation) and fault.trekkpliktig in (None, party):
                    if fault.times is not None:
                        fault.times -= 1
                        if fault.times <= 0:
                            self.faults.remove(fault)
                    return fault
            return None

    # Pushing

    def pop_due(self) -> Delivery | None:
        """The next delivery to make now."""
        with self.lock:
            return self.deliveries.pop_due(self.clock())

    def record_outcome(self, delivery: Delivery, *, accepted: bool) -> None:
        """How a delivery went."""
        with self.changed:
            subscription = self.subscriptions.get(delivery.subscription_id)
            if accepted:
                self.deliveries.succeeded(delivery)
                if delivery.is_validation and subscription is not None:
                    subscription.validated = True
            elif subscription is not None:
                self.deliveries.failed(delivery, self.clock())
            self.changed.notify_all()

    def set_paused(self, *, paused: bool) -> None:
        """Hold back all pushes, or resume them."""
        with self.changed:
            self.deliveries.is_paused = paused
            self.changed.notify_all()

    def summary(self) -> dict[str, Any]:
        """Counts for people and tests."""
        with self.lock:
            calls: dict[str, dict[str, int]] = {}
            for (operation, status), count in sorted(self.calls.items()):
                calls.setdefault(operation, {})[str(status)] = count
            return {
                "calls": calls,
                "push": dict(self.deliveries.counts),
                "waiting": len(self.deliveries),
                "events": len(self.log),
                "subscriptions": len(self.subscriptions),
                "validated": sum(each.validated for each in self.subscriptions.values()),
            }

    def _made(self, consumer: str, end_point: str, filters: dict[str, str | None]) -> EventSubscription:
        subscription = EventSubscription(
            id=self._next_id,
            end_point=end_point,
            consumer=consumer,
            created_by=consumer,
            created=datetime.fromtimestamp(self.clock(), UTC).isoformat(),
            resource_filter=filters["resource"] or "",
            subject_filter=filters["subject"],
            type_filter=filters["type"],
            source_filter=filters["source"],
        )
        self._next_id += 1
        self.subscriptions[subscription.id] = subscription
        self._by_subject.setdefault(subscription.subject_filter, set()).add(subscription.id)
        self._by_consumer.setdefault(consumer, set()).add(subscription.id)
        return subscription

    def _validate(self, subscription: EventSubscription) -> None:
        event = validation_event(self.random, self.base_url, subscription.id)
        delivery = Delivery(subscription.id, subscription.end_point, event, is_validation=True)
        self.deliveries.add(delivery, self.clock())
        self.changed.notify_all()


def _fits(subscription: EventSubscription, event: Event) -> bool:
    wanted = (subscription.resource_filter, subscription.type_filter, subscription.source_filter)
    values = (event.get("resource"), event.get("type"), event.get("source"))
    return all(one in (None, other) for one, other in zip(wanted, values, strict=True))


def _same(known: EventSubscription, end_point: str, filters: dict[str, str | None]) -> bool:
    present = (known.end_point, known.resource_filter, known.subject_filter, known.type_filter, known.source_filter)
    return present == (end_point, filters["resource"], filters["subject"], filters["type"], filters["source"])
