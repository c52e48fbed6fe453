"""The words of detection: what holds for it, what it decides, and the two decisions that operators share with it."""

from __future__ import annotations

from collections.abc import Container

import msgspec

from producer.domain.content import CONTENT_HASH_VERSION, content_hash
from producer.domain.state import OrderState
from producer.domain.trekkpaalegg import Element, Failed, Origin, Publication, Rejected, RejectionReason, Trekkpaalegg

VERSION_JUMP_MAX = 1000


class Context(msgspec.Struct, frozen=True):
    """What holds for a whole detection.

    `served` are all trekkpliktige that this application serves, `now` is in microseconds since 1970. `moves_position`
    is false for elements that were not read in the order of their sekvensnummer. `moved` are orders (trekkid) that now
    belong to another of `served`, whose newest version must stay the newest.
    """

    trekkpliktig: str
    served: Container[str]
    origin: Origin
    now: int
    moves_position: bool = True
    moved: Container[str] = ()


class Tally(msgspec.Struct):
    """Counts of one detection, for the metrics."""

    gaps_filled: int = 0
    gaps_missing: int = 0
    gaps_given_up: int = 0
    changed_content: int = 0
    version_jumps: int = 0
    foreign_published: int = 0
    foreign_left: int = 0


class Detection(msgspec.Struct):
    """What is to be done: publish in this order, quarantine, remember; all of it or none.

    `stopped` is set when a version could not be fetched now: the reading must be taken up again from `position`.
    """

    position: int
    publications: list[Publication] = []
    rejected: list[Rejected] = []
    orders: dict[bytes, OrderState] = {}
    stopped: Failed | None = None
    tally: Tally = msgspec.field(default_factory=Tally)

    @property
    def changes_something(self) -> bool:
        """Whether there is anything to write besides the position."""
        return bool(self.publications or self.rejected or self.orders)


def order_key(element: Element) -> bytes:
    """Key under which the order of this element is remembered: its trekkid, or `#` and its hash where unknown."""
    if element.trekkid is None:
        return b"#" + element.raw_hash.hex().encode()
    return element.trekkid.encode()


def is_left(element: Element, trekkpliktig: str, served: Container[str]) -> bool:
    """Whether this element, read for `trekkpliktig`, names another of ours, whose lane publishes it."""
    return isinstance(element, Trekkpaalegg) and element.trekkpliktig != trekkpliktig and element.trekkpliktig in served


def correct(order: OrderState, element: Trekkpaalegg, origin: Origin) -> tuple[Publication, OrderState]:
    """Publish changed content of a version that was published before, and remember it."""
    number = order.corrections_of(element.trekkversjon) + 1
    corrections = {**dict(order.corrections), element.trekkversjon: number}
    newest = element.trekkversjon == order.trekkversjon
    order = msgspec.structs.replace(order, corrections=tuple(sorted(corrections.items())))
    if newest:
        order = msgspec.structs.replace(
            order, content_hash=content_hash(element), content_hash_version=CONTENT_HASH_VERSION
        )
    return Publication(element, origin, correction=number, current=newest), order


def rejection_of(element: Trekkpaalegg, trekkpliktig: str, reason: RejectionReason, field_path: str) -> Rejected:
    """Turn a version that was understood into one for the quarantine."""
    return Rejected(
        trekkpliktig=trekkpliktig,
        raw=element.raw,
        raw_hash=content_hash(element),
        reason=reason,
        field_path=field_path,
        detail=_DETAILS.get(reason, ""),
        trekkid=element.trekkid,
        trekkversjon=element.trekkversjon,
        sekvensnummer=element.sekvensnummer,
    )


_DETAILS = {
    RejectionReason.VERSION_JUMP: f"the version is more than {VERSION_JUMP_MAX} above the newest one published",
    RejectionReason.CHANGED_CONTENT: "this version was published before with other content",
    RejectionReason.TOO_LARGE: "the event is larger than the topic takes",
}
