"""From what was published and what one answer holds to what is to be published, quarantined and remembered: pure.

Every element is compared, by trekkversjon, with the newest published version of its order:

- higher by one: publish. Higher by more: first the versions between, fetched by number. One that is gone is recorded
  as missing; one that cannot be fetched now stops the reading before it, and is recorded as missing after a day.
  A jump of more than `VERSION_JUMP_MAX` is not believed.
- the same: nothing, unless its content has changed; then quarantine, save the switch from aktiv to avsluttet alone,
  which is published as a correction.
- lower: nothing, unless it was missing; then publish it late.

What cannot be understood is quarantined once and its version recorded as missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from producer.detect.decisions import VERSION_JUMP_MAX, Detection, correct, is_left, order_key, rejection_of
from producer.domain.content import CONTENT_HASH_VERSION, content_hash
from producer.domain.state import OrderState, with_missing, without_missing
from producer.domain.trekkpaalegg import (
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
    from collections.abc import Iterable, Mapping

    from producer.detect.decisions import Context
    from producer.domain.state import TrekkpliktigState
    from producer.domain.trekkpaalegg import Element, Fetched

GAP_FAILING_MICROSECONDS_MAX = 24 * 3600 * 1_000_000


def needed_versions(state: TrekkpliktigState, elements: Iterable[Element]) -> list[tuple[str, int]]:
    """The versions (trekkid, trekkversjon) that `detect` wants fetched for these elements, in order."""
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

    `versions` holds the answer for each of `needed_versions`. The number of a rejected element does not move the
    position: were it wrong, all below it would be skipped.
    """
    detector = _Detector(state, versions, context)
    for element in elements:
        detector.take(element)
        if detector.found.stopped is not None:
            break
        if context.moves_position and isinstance(element, Trekkpaalegg):
            detector.found.position = max(detector.found.position, element.sekvensnummer)
    return detector.found


class _Detector:
    """One detection under way: `found` grows, `state` is only read."""

    def __init__(self, state: TrekkpliktigState, versions: Mapping[tuple[str, int], Fetched], context: Context) -> None:
        self._state = state
        self._versions = versions
        self._context = context
        self.found = Detection(state.position.position)

    def take(self, element: Element) -> None:
        key = order_key(element)
        order = self.found.orders.get(key) or self._state.order(key)
        if isinstance(element, Rejected):
            self._take_rejected(key, order, element)
        elif self._belongs_here(element):
            self._take_trekkpaalegg(key, order, element)

    def _belongs_here(self, trekkpaalegg: Trekkpaalegg) -> bool:
        """One that names another trekkpliktig of ours is left to the lane of that one."""
        if trekkpaalegg.trekkpliktig == self._context.trekkpliktig:
            return True
        if is_left(trekkpaalegg, self._context.trekkpliktig, self._context.served):
            self.found.tally.foreign_left += 1
            return False
        self.found.tally.foreign_published += 1
        return True

    def _take_trekkpaalegg(self, key: bytes, order: OrderState, element: Trekkpaalegg) -> None:
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

    def _take_rejected(self, key: bytes, order: OrderState, element: Rejected) -> None:
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
        """Quarantine once: its hash then stands in the order's state."""
        if rejected.raw_hash not in order.rejected:
            self.found.rejected.append(rejected)
            order = order.with_rejected(rejected.raw_hash)
        if order != self._state.order(key):
            self.found.orders[key] = order

    def _fill(self, key: bytes, order: OrderState, element: Element) -> OrderState | None:
        """Publish the versions between the newest one and this element; None when that has to wait."""
        for trekkversjon in range(order.trekkversjon + 1, element.trekkversjon or 0):
            between = self._versions.get((str(element.trekkid), trekkversjon))
            if isinstance(between, Trekkpaalegg):
                if self._belongs_here(between):
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
