"""Detection: decide what to publish, quarantine and remember, given what was published and what was read. Pure.

Every element is compared, by trekkversjon, with the newest published version of its order:

- Higher by one: publish it. Higher by more: publish the versions between first, which are fetched by number. A version
  that is gone is recorded as missing. One that cannot be fetched now stops the reading before it, and is recorded as
  missing after a day. A jump of more than `VERSION_JUMP_MAX` versions is not believed.
- The same: do nothing, unless the content has changed. A change from aktiv to avsluttet alone is published as a
  correction; any other change is quarantined.
- Lower: do nothing, unless the version was missing. Then publish it late.

An element that cannot be understood is quarantined once, and its version is recorded as missing.
"""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING, TypeVar

import msgspec

from producer.domain.content import CONTENT_HASH_VERSION, content_hash
from producer.domain.state import OrderState, with_missing, without_missing
from producer.domain.trekkpaalegg import (
    Element,
    Failed,
    Gone,
    Origin,
    Publication,
    Rejected,
    RejectionReason,
    Trekkpaalegg,
    Trekkstatus,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from producer.domain.state import TrekkpliktigState
    from producer.domain.trekkpaalegg import Fetched
    from producer.errors import RejectedTrekkpaaleggError

Encoded = TypeVar("Encoded")

VERSION_JUMP_MAX = 1000
GAP_FAILING_MICROSECONDS_MAX = 24 * 3600 * 1_000_000


class Context(msgspec.Struct, frozen=True):
    """What applies to a whole detection.

    `served` are all trekkpliktige that this application serves. `now` is in microseconds since 1970. `moves_position`
    is false for elements that were not read in the order of their sekvensnummer. `moved` are orders (trekkid) that now
    belong to another of `served`, so that what is published here must not replace their newest version.
    """

    trekkpliktig: str
    served: Container[str]
    origin: Origin
    now: int
    moves_position: bool = True
    moved: Container[str] = ()


class DetectionCounts(msgspec.Struct):
    """Counts of one detection, for the metrics."""

    gaps_filled: int = 0
    gaps_missing: int = 0
    gaps_given_up: int = 0
    changed_content: int = 0
    version_jumps: int = 0
    foreign_published: int = 0
    foreign_left: int = 0


class Detection(msgspec.Struct):
    """What to publish, in this order, to quarantine and to remember: all of it or nothing.

    `stopped` is set if a version could not be fetched now: the reading must start again from `position`.
    """

    position: int
    publications: list[Publication] = []
    rejected: list[Rejected] = []
    orders: dict[bytes, OrderState] = {}
    stopped: Failed | None = None
    tally: DetectionCounts = msgspec.field(default_factory=DetectionCounts)

    @property
    def changes_something(self) -> bool:
        """Whether there is anything to write besides the position."""
        return bool(self.publications or self.rejected or self.orders)


def order_key(element: Element) -> bytes:
    """The key of the element's order in the state: its trekkid, or `#` and the element's hash if that is unknown."""
    if element.trekkid is None:
        return b"#" + element.raw_hash.hex().encode()
    return element.trekkid.encode()


def is_left(element: Element, trekkpliktig: str, served: Container[str]) -> bool:
    """Whether this element, read for `trekkpliktig`, names another that we serve, whose lane publishes it."""
    return isinstance(element, Trekkpaalegg) and element.trekkpliktig != trekkpliktig and element.trekkpliktig in served


def needed_versions(state: TrekkpliktigState, elements: Iterable[Element]) -> list[tuple[str, int]]:
    """The versions (trekkid, trekkversjon) that `detect` needs for these elements, in order."""
    needed: list[tuple[str, int]] = []
    seen: dict[bytes, int] = {}
    for element in elements:
        trekkversjon = element.trekkversjon
        if trekkversjon is None or trekkversjon == 1 or element.trekkid is None:
            continue
        key = order_key(element)
        newest = max(state.newest(key), seen.get(key, 0))
        if not newest + 1 < trekkversjon <= newest + VERSION_JUMP_MAX:
            seen[key] = max(newest, trekkversjon) if trekkversjon == newest + 1 else newest
            continue
        known = state.order(key) if isinstance(element, Rejected) else None
        needed += [
            (element.trekkid, between)
            for between in range(newest + 1, trekkversjon)
            if known is None or not known.is_missing(between)
        ]
        seen[key] = trekkversjon
    return needed


def detect(
    state: TrekkpliktigState, elements: Iterable[Element], versions: Mapping[tuple[str, int], Fetched], context: Context
) -> Detection:
    """Decide what becomes of these elements, which are in rising sekvensnummer. Changes nothing.

    `versions` holds what was fetched for each of `needed_versions`. A rejected element does not move the position: if
    its number were wrong, everything below it would be skipped.
    """
    detector = _Detector(state, versions, context)
    for element in elements:
        detector.process(element)
        if detector.found.stopped is not None:
            break
        if context.moves_position and isinstance(element, Trekkpaalegg):
            detector.found.position = max(detector.found.position, element.sekvensnummer)
    return detector.found


class UnencodableError(Exception):
    """A version that the event schema or the topic cannot hold. `cause` names the reason and the field."""

    def __init__(self, trekkpaalegg: Trekkpaalegg, cause: RejectedTrekkpaaleggError) -> None:
        super().__init__()
        self.trekkpaalegg = trekkpaalegg
        self.cause = cause


def detect_encodable(
    state: TrekkpliktigState,
    elements: Iterable[Element],
    versions: Mapping[tuple[str, int], Fetched],
    context: Context,
    encode: Callable[[Detection], Encoded],
) -> tuple[Detection, Encoded]:
    """As `detect`, together with what `encode` makes of the result.

    If `encode` raises `UnencodableError` for a version, detection starts again with that version rejected.
    """
    chunk, fetched = list(elements), dict(versions)
    while True:
        detection = detect(state, chunk, fetched, context)
        try:
            return detection, encode(detection)
        except UnencodableError as error:
            failed, cause = error.trekkpaalegg, error.cause
            rejected = rejection_of(failed, context.trekkpliktig, RejectionReason(cause.reason), cause.field_path)
            chunk = [rejected if each is failed else each for each in chunk]
            fetched = {wanted: rejected if each is failed else each for wanted, each in fetched.items()}


class _Detector:
    """One detection in progress: `found` grows, `state` is only read."""

    def __init__(self, state: TrekkpliktigState, versions: Mapping[tuple[str, int], Fetched], context: Context) -> None:
        self._state = state
        self._versions = versions
        self._context = context
        self.found = Detection(state.position.position)

    def process(self, element: Element) -> None:
        key = order_key(element)
        order = self.found.orders.get(key) or self._state.order(key)
        if isinstance(element, Rejected):
            self._process_rejected(key, order, element)
        elif self._claim(element):
            self._process_trekkpaalegg(key, order, element)

    def _claim(self, trekkpaalegg: Trekkpaalegg) -> bool:
        """Count a version that names another trekkpliktig. False if that is one we serve: its lane publishes it."""
        if trekkpaalegg.trekkpliktig == self._context.trekkpliktig:
            return True
        if is_left(trekkpaalegg, self._context.trekkpliktig, self._context.served):
            self.found.tally.foreign_left += 1
            return False
        self.found.tally.foreign_published += 1
        return True

    def _process_trekkpaalegg(self, key: bytes, order: OrderState, element: Trekkpaalegg) -> None:
        if element.trekkversjon == order.trekkversjon:
            self._compare(key, order, element)
        elif element.trekkversjon < order.trekkversjon:
            if order.is_missing(element.trekkversjon):
                self._publish_late(key, order, element)
        elif element.trekkversjon - order.trekkversjon > VERSION_JUMP_MAX:
            self.found.tally.version_jumps += 1
            self._quarantine(key, order, self._rejection(element, RejectionReason.VERSION_JUMP, "trekkversjon"))
        else:
            filled = self._fill(key, order, element)
            if filled is not None:
                self._publish_newest(key, filled, element, self._context.origin)

    def _process_rejected(self, key: bytes, order: OrderState, element: Rejected) -> None:
        trekkversjon = element.trekkversjon
        if trekkversjon is not None and element.trekkid is not None:
            ahead = trekkversjon - order.trekkversjon
            if 0 < ahead <= VERSION_JUMP_MAX:
                filled = self._fill(key, order, element)
                if filled is None:
                    return
                missing = with_missing(filled.missing, trekkversjon, trekkversjon)
                order = msgspec.structs.replace(filled, missing=missing, failing_since=None)
        self._quarantine(key, order, element)

    def _quarantine(self, key: bytes, order: OrderState, rejected: Rejected) -> None:
        """Quarantine it, unless its hash is in the order's state already."""
        if rejected.raw_hash not in order.rejected:
            self.found.rejected.append(rejected)
            order = order.with_rejected(rejected.raw_hash)
        if order != self._state.order(key):
            self.found.orders[key] = order

    def _fill(self, key: bytes, order: OrderState, element: Element) -> OrderState | None:
        """Publish the versions between the newest one and this element; None if one of them must be waited for."""
        for trekkversjon in range(order.trekkversjon + 1, element.trekkversjon or 0):
            between = self._versions.get((str(element.trekkid), trekkversjon))
            if isinstance(between, Trekkpaalegg):
                if self._claim(between):
                    order = self._publish_newest(key, order, between, Origin.GAPFILL)
                    self.found.tally.gaps_filled += 1
                continue
            if order.is_missing(trekkversjon) and not isinstance(between, Rejected):
                continue
            if between is None or isinstance(between, Failed):
                if not self._has_failed_for_long(order):
                    self._stop(key, order, between or Failed("not fetched"))
                    return None
                self.found.tally.gaps_given_up += 1
            elif isinstance(between, Gone):
                self.found.tally.gaps_missing += 1
            elif between.raw_hash not in order.rejected:
                self.found.rejected.append(between)
                order = order.with_rejected(between.raw_hash)
            missing = with_missing(order.missing, trekkversjon, trekkversjon)
            order = self.found.orders[key] = msgspec.structs.replace(order, missing=missing)
        return order

    def _has_failed_for_long(self, order: OrderState) -> bool:
        since = order.failing_since
        return since is not None and self._context.now - since > GAP_FAILING_MICROSECONDS_MAX

    def _stop(self, key: bytes, order: OrderState, failed: Failed) -> None:
        self.found.stopped = failed
        if order.failing_since is None:
            self.found.orders[key] = msgspec.structs.replace(order, failing_since=self._context.now)

    def _publish_newest(self, key: bytes, order: OrderState, element: Trekkpaalegg, origin: Origin) -> OrderState:
        late = element.trekkid in self._context.moved
        self.found.publications.append(Publication(element, origin, late=late, current=not late))
        order = self.found.orders[key] = OrderState(
            element.trekkversjon,
            content_hash(element),
            CONTENT_HASH_VERSION,
            without_missing(order.missing, element.trekkversjon) if order.missing else (),
            order.rejected,
            order.corrections,
        )
        return order

    def _publish_late(self, key: bytes, order: OrderState, element: Trekkpaalegg) -> None:
        self.found.publications.append(Publication(element, self._context.origin, late=True, current=False))
        missing = without_missing(order.missing, element.trekkversjon)
        self.found.orders[key] = msgspec.structs.replace(order, missing=missing)

    def _compare(self, key: bytes, order: OrderState, element: Trekkpaalegg) -> None:
        content = content_hash(element)
        if content == order.content_hash and order.content_hash_version == CONTENT_HASH_VERSION:
            return
        if order.content_hash_version != CONTENT_HASH_VERSION:
            self.found.orders[key] = msgspec.structs.replace(
                order, content_hash=content, content_hash_version=CONTENT_HASH_VERSION
            )
            return
        before = content_hash(element, Trekkstatus.AKTIV)
        if element.trekkstatus is Trekkstatus.AVSLUTTET and before == order.content_hash:
            publication, self.found.orders[key] = correct(order, element, self._context.origin)
            self.found.publications.append(publication)
            return
        if content not in order.rejected:
            self.found.tally.changed_content += 1
        self._quarantine(key, order, self._rejection(element, RejectionReason.CHANGED_CONTENT, "$"))

    def _rejection(self, element: Trekkpaalegg, reason: RejectionReason, field_path: str) -> Rejected:
        return rejection_of(element, self._context.trekkpliktig, reason, field_path)


def correct(order: OrderState, element: Trekkpaalegg, origin: Origin) -> tuple[Publication, OrderState]:
    """The correction to publish for changed content of a published version, and the order's state after it."""
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
    """The quarantine record of a version that was understood but is not published."""
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
