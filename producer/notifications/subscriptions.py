"""Altinn subscriptions: which one a trekkpliktig should have, which it has, and the changes that make them equal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urlsplit

import msgspec

from producer.notifications.client import NOT_FOUND, AltinnRequest
from producer.notifications.event import ORGANISATION, RESOURCE
from trekkpaalegg.errors import RetryableError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from producer.notifications.client import AltinnClient
    from producer.source.http import HttpResponse

NOTIFICATIONS_PATH: Final = "/notifications/"
"""The path between the receiver's base URL and its secret."""

_MASK: Final = "***"


def notification_address(base_url: str, secret: str) -> str:
    """The URL to subscribe with. Anyone who knows it can send wake-ups, so show it only by `shown`."""
    return f"{base_url.rstrip('/')}{NOTIFICATIONS_PATH}{secret}"


def is_below(base_url: str, address: str) -> bool:
    """Whether it is a URL of the receiver at this base URL, with any secret."""
    start = f"{base_url.rstrip('/')}{NOTIFICATIONS_PATH}"
    return address.startswith(start) and len(address) > len(start)


def shown(address: str) -> str:
    """The URL without the parts that may be secret: its last segment, its query, user and password."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return _MASK
    folder, slash, last = parts.path.rpartition("/")
    authority = host if port is None else f"{host}:{port}"
    return f"{parts.scheme}://{authority}{folder}{slash}{_MASK if last or parts.query else ''}"


class AltinnSubscription(msgspec.Struct, frozen=True, rename="camel"):
    """A subscription as Altinn returns it. Its repr hides the secret in its URL."""

    id: int | str
    end_point: str
    resource_filter: str | None = None
    subject_filter: str | None = None
    type_filter: str | None = None
    source_filter: str | None = None
    validated: bool = False

    def __repr__(self) -> str:
        return f"AltinnSubscription(id={self.id!r}, end_point={shown(self.end_point)!r}, validated={self.validated})"


class WantedSubscription(msgspec.Struct, frozen=True):
    """A subscription that should exist: events about `subject` at `resource` go to `address`."""

    address: str
    resource: str
    subject: str

    def __repr__(self) -> str:
        return (
            f"WantedSubscription(address={shown(self.address)!r}, resource={self.resource!r}, subject={self.subject!r})"
        )


class Plan(msgspec.Struct, frozen=True):
    """The changes to make. `standing` is the wanted subscription if it exists; `make`: create it or validate it again.

    `remove` are our other subscriptions for the same trekkpliktig: duplicates, or ones with an older secret. They are
    removed last, so that no event is lost in between.
    """

    standing: AltinnSubscription | None
    make: bool
    remove: tuple[AltinnSubscription, ...]


def wanted_subscription(trekkpliktig: str, address: str) -> WantedSubscription:
    """The subscription that a trekkpliktig should have."""
    return WantedSubscription(address, RESOURCE, f"{ORGANISATION}{trekkpliktig}")


def ours_of(trekkpliktig: str, base_url: str, found: Iterable[AltinnSubscription]) -> list[AltinnSubscription]:
    """Our subscriptions for this trekkpliktig, oldest first: about it, at the resource, to the receiver at `base_url`.

    A subscription to another URL belongs to the trekkpliktig itself or to another supplier, and is never changed. A
    token may show the subscriptions of several trekkpliktige; those of others are left out too.
    """
    subject = f"{ORGANISATION}{trekkpliktig}"
    ours = [
        each
        for each in found
        if each.resource_filter == RESOURCE and each.subject_filter == subject and is_below(base_url, each.end_point)
    ]
    return sorted(ours, key=lambda each: (len(str(each.id)), str(each.id)))


def plan_of(wanted: WantedSubscription, ours: list[AltinnSubscription]) -> Plan:
    """The changes from `ours` to `wanted`. Once they are made, there are none."""
    fitting = [
        each for each in ours if each.end_point == wanted.address and not (each.type_filter or each.source_filter)
    ]
    standing = next((each for each in fitting if each.validated), fitting[0] if fitting else None)
    make = standing is None or not standing.validated
    return Plan(standing, make, tuple(each for each in ours if each is not standing))


_PATH: Final = "/events/api/v1/subscriptions"
_OK: Final = 200
_CREATED: Final = 201
_NO_CONTENT: Final = 204


class _Listing(msgspec.Struct):
    subscriptions: list[AltinnSubscription] | None = None


_decode_listing = msgspec.json.Decoder(_Listing).decode
_decode_one = msgspec.json.Decoder(AltinnSubscription).decode
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Subscriptions:
    """Altinn's subscription API. Raises `RetryableError`, `SuspendedError` (this trekkpliktig) or `FatalError`."""

    def __init__(self, client: AltinnClient) -> None:
        self._client = client

    def all_of(self, trekkpliktig: str) -> list[AltinnSubscription]:
        """All subscriptions that this trekkpliktig's token can see, not only ours."""
        answer = self._client.send(trekkpliktig, AltinnRequest("list subscriptions", "GET", _PATH))
        try:
            found = _decode_listing(answer.body).subscriptions
        except _UNREADABLE:
            raise RetryableError("Altinn's list of subscriptions cannot be read") from None
        return found or []

    def make(self, trekkpliktig: str, wanted: WantedSubscription) -> AltinnSubscription:
        """Create it, or validate the existing one again. Empty filters are left out, as Altinn requires."""
        document = {"endPoint": wanted.address, "resourceFilter": wanted.resource, "subjectFilter": wanted.subject}
        request = AltinnRequest("subscribe", "POST", _PATH, (_OK, _CREATED), document)
        return _read_one(self._client.send(trekkpliktig, request))

    def get(self, trekkpliktig: str, subscription: AltinnSubscription) -> AltinnSubscription | None:
        """The subscription as it is now; None if it does not exist any more."""
        request = AltinnRequest("show a subscription", "GET", f"{_PATH}/{_segment(subscription)}", (_OK, NOT_FOUND))
        answer = self._client.send(trekkpliktig, request)
        return None if answer.status == NOT_FOUND else _read_one(answer)

    def remove(self, trekkpliktig: str, subscription: AltinnSubscription) -> None:
        """Remove it; that it does not exist any more is not a failure."""
        accepted = (_OK, _NO_CONTENT, NOT_FOUND)
        request = AltinnRequest("remove a subscription", "DELETE", f"{_PATH}/{_segment(subscription)}", accepted)
        self._client.send(trekkpliktig, request)


def _segment(subscription: AltinnSubscription) -> str:
    """The id as a segment of the URL. Ids are numbers; one that would lead to another path is refused."""
    text = str(subscription.id)
    if not (text.isascii() and text.replace("-", "").isalnum()):
        raise RetryableError("Altinn returned an invalid id of a subscription")
    return text


def _read_one(answer: HttpResponse) -> AltinnSubscription:
    try:
        return _decode_one(answer.body)
    except _UNREADABLE:
        raise RetryableError("Altinn's answer holds no subscription that can be read") from None


Done = Literal["made", "renewed", "unchanged", "exists", "removed", "none"]


class SubscriptionOutcome(msgspec.Struct, frozen=True):
    """What was done, and which subscriptions exist now; `removed` is how many were removed."""

    done: Done
    standing: tuple[AltinnSubscription, ...]
    removed: int = 0

    @property
    def is_validated(self) -> bool:
        """Whether there is one that Altinn sends events to."""
        return any(each.validated for each in self.standing)


class SubscriptionKeeper:
    """Manages the subscriptions to the receiver at `base_url`. Safe for several threads.

    Each operation raises `RetryableError`, `SuspendedError` (this trekkpliktig) or `FatalError`.
    """

    def __init__(self, subscriptions: Subscriptions, base_url: str, secret: str) -> None:
        self._subscriptions = subscriptions
        self._base_url = base_url
        self._address = notification_address(base_url, secret)

    def apply(self, trekkpliktig: str) -> SubscriptionOutcome:
        """Make sure that there is exactly one. One that exists and is validated is left unchanged."""
        wanted = wanted_subscription(trekkpliktig, self._address)
        plan = plan_of(wanted, self._ours(trekkpliktig))
        done: Done = "unchanged"
        standing = plan.standing
        if standing is None or plan.make:
            done = "made" if standing is None else "renewed"
            standing = self._subscriptions.make(trekkpliktig, wanted)
        former = [each for each in plan.remove if each.id != standing.id]
        for each in former:
            self._subscriptions.remove(trekkpliktig, each)
        return SubscriptionOutcome(done, (standing,), len(former))

    def found(self, trekkpliktig: str) -> SubscriptionOutcome:
        """The subscriptions that exist; changes nothing."""
        ours = tuple(self._ours(trekkpliktig))
        return SubscriptionOutcome("exists" if ours else "none", ours)

    def remove(self, trekkpliktig: str) -> SubscriptionOutcome:
        """Make sure that there is none."""
        ours = self._ours(trekkpliktig)
        for each in ours:
            self._subscriptions.remove(trekkpliktig, each)
        return SubscriptionOutcome("removed" if ours else "none", (), len(ours))

    def refreshed(self, trekkpliktig: str, applied: SubscriptionOutcome) -> SubscriptionOutcome:
        """`applied` with the present state of its subscriptions, since validation takes Altinn a moment."""
        now = [self._subscriptions.get(trekkpliktig, each) for each in applied.standing]
        return msgspec.structs.replace(applied, standing=tuple(each for each in now if each is not None))

    def _ours(self, trekkpliktig: str) -> list[AltinnSubscription]:
        return ours_of(trekkpliktig, self._base_url, self._subscriptions.all_of(trekkpliktig))
