"""Altinn subscriptions: what there should be for an employer, what there is, and the changes between the two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import msgspec

from producer.notifications.address import is_below, notification_address, shown
from producer.notifications.client import NOT_FOUND, AltinnRequest
from producer.notifications.event import ORGANISATION, RESOURCE
from trekkpaalegg.errors import RetryableError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from producer.notifications.client import AltinnClient
    from producer.source.http import HttpResponse


class Subscription(msgspec.Struct, frozen=True, rename="camel"):
    """One subscription as Altinn tells of it. Shows without the secret in its address."""

    id: int | str
    end_point: str
    resource_filter: str | None = None
    subject_filter: str | None = None
    type_filter: str | None = None
    source_filter: str | None = None
    validated: bool = False

    def __repr__(self) -> str:
        return f"Subscription(id={self.id!r}, end_point={shown(self.end_point)!r}, validated={self.validated})"


class WantedSubscription(msgspec.Struct, frozen=True):
    """A subscription that should stand: events about `subject` at `resource` go to `address`."""

    address: str
    resource: str
    subject: str

    def __repr__(self) -> str:
        return (
            f"WantedSubscription(address={shown(self.address)!r}, resource={self.resource!r}, subject={self.subject!r})"
        )


class Plan(msgspec.Struct, frozen=True):
    """`standing` is the one that should stand and does; `make` says whether to make it, or have it validated anew.

    `remove` are others of ours for the same trekkpliktig: an older secret, a double. They are removed last, so that
    no event falls between.
    """

    standing: Subscription | None
    make: bool
    remove: tuple[Subscription, ...]


def wanted_subscription(trekkpliktig: str, address: str) -> WantedSubscription:
    """The one subscription that a trekkpliktig should have."""
    return WantedSubscription(address, RESOURCE, f"{ORGANISATION}{trekkpliktig}")


def ours_of(trekkpliktig: str, base_url: str, found: Iterable[Subscription]) -> list[Subscription]:
    """Those that we made for this trekkpliktig, oldest first: about it, at the resource, to the receiver at `base_url`.

    What leads elsewhere is another's, of the trekkpliktig itself or of another supplier, and is never touched. A
    token may show the subscriptions of several trekkpliktige; those of others are not this one's either.
    """
    subject = f"{ORGANISATION}{trekkpliktig}"
    ours = [
        each
        for each in found
        if each.resource_filter == RESOURCE and each.subject_filter == subject and is_below(base_url, each.end_point)
    ]
    return sorted(ours, key=lambda each: (len(str(each.id)), str(each.id)))


def plan_of(wanted: WantedSubscription, ours: list[Subscription]) -> Plan:
    """What brings `ours` to `wanted` and nothing else: the second time it is nothing."""
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
    subscriptions: list[Subscription] | None = None


_decode_listing = msgspec.json.Decoder(_Listing).decode
_decode_one = msgspec.json.Decoder(Subscription).decode
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Subscriptions:
    """Each operation raises `RetryableError`, `SuspendedError` (this trekkpliktig) or `FatalError`."""

    def __init__(self, client: AltinnClient) -> None:
        self._client = client

    def all_of(self, trekkpliktig: str) -> list[Subscription]:
        """All that this trekkpliktig's token can see, others than ours too."""
        answer = self._client.send(trekkpliktig, AltinnRequest("list subscriptions", "GET", _PATH))
        try:
            found = _decode_listing(answer.body).subscriptions
        except _UNREADABLE:
            raise RetryableError("Altinn's list of subscriptions cannot be read") from None
        return found or []

    def make(self, trekkpliktig: str, wanted: WantedSubscription) -> Subscription:
        """Make it, or have the same one that stands validated anew. Empty filters are left out, as Altinn asks."""
        document = {"endPoint": wanted.address, "resourceFilter": wanted.resource, "subjectFilter": wanted.subject}
        request = AltinnRequest("subscribe", "POST", _PATH, (_OK, _CREATED), document)
        return _read_one(self._client.send(trekkpliktig, request))

    def get(self, trekkpliktig: str, subscription: Subscription) -> Subscription | None:
        """The same one as it stands now; None if it has gone."""
        request = AltinnRequest("show a subscription", "GET", f"{_PATH}/{_segment(subscription)}", (_OK, NOT_FOUND))
        answer = self._client.send(trekkpliktig, request)
        return None if answer.status == NOT_FOUND else _read_one(answer)

    def remove(self, trekkpliktig: str, subscription: Subscription) -> None:
        """Remove it; one that has gone already is no failure."""
        accepted = (_OK, _NO_CONTENT, NOT_FOUND)
        request = AltinnRequest("remove a subscription", "DELETE", f"{_PATH}/{_segment(subscription)}", accepted)
        self._client.send(trekkpliktig, request)


def _segment(subscription: Subscription) -> str:
    """The id as part of an address. Ids are numbers; anything that would lead elsewhere is not followed."""
    text = str(subscription.id)
    if not (text.isascii() and text.replace("-", "").isalnum()):
        raise RetryableError("Altinn tells an id of a subscription that is none")
    return text


def _read_one(answer: HttpResponse) -> Subscription:
    try:
        return _decode_one(answer.body)
    except _UNREADABLE:
        raise RetryableError("Altinn's answer holds no subscription that can be read") from None


Done = Literal["made", "renewed", "unchanged", "stands", "removed", "none"]


class Applied(msgspec.Struct, frozen=True):
    """What was done, and what stands now; `removed` counts those that were taken away."""

    done: Done
    standing: tuple[Subscription, ...]
    removed: int = 0

    @property
    def is_validated(self) -> bool:
        """Whether one stands that Altinn sends events to."""
        return any(each.validated for each in self.standing)


class SubscriptionKeeper:
    """Keeps subscriptions that lead to the receiver at `base_url`. Safe for several threads.

    Each operation raises `RetryableError`, `SuspendedError` (this trekkpliktig) or `FatalError`.
    """

    def __init__(self, subscriptions: Subscriptions, base_url: str, secret: str) -> None:
        self._subscriptions = subscriptions
        self._base_url = base_url
        self._address = notification_address(base_url, secret)

    def apply(self, trekkpliktig: str) -> Applied:
        """See that exactly one stands. What is there and validated is left alone."""
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
        return Applied(done, (standing,), len(former))

    def found(self, trekkpliktig: str) -> Applied:
        """What stands, with nothing done."""
        ours = tuple(self._ours(trekkpliktig))
        return Applied("stands" if ours else "none", ours)

    def remove(self, trekkpliktig: str) -> Applied:
        """See that none stands."""
        ours = self._ours(trekkpliktig)
        for each in ours:
            self._subscriptions.remove(trekkpliktig, each)
        return Applied("removed" if ours else "none", (), len(ours))

    def refreshed(self, trekkpliktig: str, applied: Applied) -> Applied:
        """The same with what has become of the subscription since: validation takes Altinn a moment."""
        now = [self._subscriptions.get(trekkpliktig, each) for each in applied.standing]
        return msgspec.structs.replace(applied, standing=tuple(each for each in now if each is not None))

    def _ours(self, trekkpliktig: str) -> list[Subscription]:
        return ours_of(trekkpliktig, self._base_url, self._subscriptions.all_of(trekkpliktig))
