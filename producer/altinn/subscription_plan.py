"""What should stand for one trekkpliktig and what stands in, what to make, renew and remove out. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from producer.altinn.address import is_below, shown
from producer.altinn.event import ORGANISATION, RESOURCE

if TYPE_CHECKING:
    from collections.abc import Iterable


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


class Wish(msgspec.Struct, frozen=True):
    """A subscription that should stand: events about `subject` at `resource` go to `address`."""

    address: str
    resource: str
    subject: str

    def __repr__(self) -> str:
        return f"Wish(address={shown(self.address)!r}, resource={self.resource!r}, subject={self.subject!r})"


class Plan(msgspec.Struct, frozen=True):
    """`standing` is the one that should stand and does; `make` says whether to make it, or have it validated anew.

    `remove` are others of ours for the same trekkpliktig: an older secret, a double. They are removed last, so that
    no event falls between.
    """

    standing: Subscription | None
    make: bool
    remove: tuple[Subscription, ...]


def wish_of(trekkpliktig: str, address: str) -> Wish:
    """The one subscription that a trekkpliktig should have."""
    return Wish(address, RESOURCE, f"{ORGANISATION}{trekkpliktig}")


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


def plan_of(wish: Wish, ours: list[Subscription]) -> Plan:
    """What brings `ours` to `wish` and nothing else: the second time it is nothing."""
    fitting = [each for each in ours if each.end_point == wish.address and not (each.type_filter or each.source_filter)]
    standing = next((each for each in fitting if each.validated), fitting[0] if fitting else None)
    make = standing is None or not standing.validated
    return Plan(standing, make, tuple(each for each in ours if each is not standing))
