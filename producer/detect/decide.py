"""Decide on one order at its home: what to publish, quarantine and remember, given what was published and seen. Pure.

The observed element is compared, by trekkversjon, with the newest published version of its order:

- Higher: publish the versions between first, which are fetched by number, then it. A version that no reader of the
  order is given is recorded as missing. One that cannot be fetched now makes the order wait, and this order only; each
  such version is recorded as missing after a day of its own. A jump of more than `VERSION_JUMP_MAX` versions is not
  believed.
- The same: do nothing, unless the content has changed. A change from aktiv to avsluttet alone is published as a
  correction; any other change is quarantined.
- Lower: publish it late if it was missing. Otherwise do nothing, unless the history has it with other content, and only
  that: then it is quarantined, as the source may have been restored, or have used a trekkid again.

An element that cannot be understood is quarantined once, and its version is recorded as missing. An order that a list
lacks is followed: what is missing is fetched by number, and then each number beyond the newest until there is none.

It is right for observations that come twice, late, or in another order.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, TypeVar

import msgspec
from msgspec.structs import replace

from producer.domain.content import CONTENT_HASH_VERSION, METHODS, content_hash, quarantine_hash
from producer.domain.state import LOST, LOST_EVERYWHERE, OrderState, with_failing, with_missing, without
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
    from collections.abc import Callable, Collection, Mapping

    from producer.domain.observation import Observation
    from producer.domain.trekkpaalegg import Element, Fetched
    from producer.errors import RejectedTrekkpaaleggError

Encoded = TypeVar("Encoded")

VERSION_JUMP_MAX = 1000
"""No decision goes further above the newest published version than this."""

GAP_FAILING_MICROSECONDS_MAX = 24 * 3600 * 1_000_000

MISSING_PER_RANGE_MAX = 100
MISSING_MAX = 1000
"""Missing versions of one order that are asked for again at a time. A released jump may span a billion."""

REJECTED = "rejected"
FAILING = "failing"
"""Reasons for which a version is missing, besides those that the source gives."""


class Counts(msgspec.Struct, frozen=True):
    """Counts of one decision, for the metrics. They can be added."""

    gaps_filled: int = 0
    gaps_missing: int = 0
    gaps_given_up: int = 0
    changed_content: int = 0
    version_jumps: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*map(sum, zip(msgspec.structs.astuple(self), msgspec.structs.astuple(other), strict=True)))


NO_COUNTS = Counts()
NO_HISTORY: Mapping[int, Collection[bytes]] = {}


class Decision(msgspec.Struct):
    """What to publish, in this order, to quarantine and to remember of one order: all of it or nothing.

    If `wanted` holds versions, or `wanted_history` names one, nothing else counts: fetch these by number, look that one
    up in the history, and decide again with both. `order` is the order's state afterwards, the same object if nothing
    changes.
    """

    order: OrderState
    publications: list[Publication] = []
    rejected: list[Rejected] = []
    wanted: list[int] = []
    wanted_history: int | None = None
    counts: Counts = NO_COUNTS

    @property
    def is_final(self) -> bool:
        """Whether nothing is wanted for it."""
        return not self.wanted and self.wanted_history is None


def decide(
    order: OrderState,
    observation: Observation,
    versions: Mapping[int, Fetched],
    now: int,
    history: Mapping[int, Collection[bytes]] = NO_HISTORY,
) -> Decision:
    """Decide what becomes of what a list showed of this order. Changes nothing.

    `versions` holds what was fetched by number so far, at first nothing; what it holds of the version that the list
    showed takes the place of that. `history` holds, of versions that were looked up, the content hashes of all that was
    published of them, none if the history lacks them. `now` is in microseconds since 1970.
    """
    element = observation.element
    if (
        isinstance(element, Trekkpaalegg)
        and element.trekkversjon == order.trekkversjon + 1
        and not versions
        and not order.missing
        and not order.seen
    ):
        content = content_hash(element)
        after = OrderState(element.trekkversjon, content, CONTENT_HASH_VERSION, (), order.rejected, order.corrections)
        return Decision(after, [Publication(element, observation.origin)])
    attempt = _Attempt(order, versions, now, observation.trekkpliktig, history)
    if element is None and observation.version is None:
        return attempt.follow()
    return attempt.observe(element, observation.version, observation.origin)


def retry(order: OrderState, versions: Mapping[int, Fetched], now: int) -> Decision:
    """Decide on an order by number alone, as on one that a list lacks. Otherwise as `decide`."""
    return _Attempt(order, versions, now, None).follow()


class UnencodableError(Exception):
    """A version that the event schema or the topic cannot hold. `cause` names the reason and the field."""

    def __init__(self, trekkpaalegg: Trekkpaalegg, cause: RejectedTrekkpaaleggError) -> None:
        super().__init__()
        self.trekkpaalegg = trekkpaalegg
        self.cause = cause


def decide_encodable(
    decide_call: Callable[[Mapping[int, Fetched]], Decision],
    versions: Mapping[int, Fetched],
    trekkpliktig: str,
    encode: Callable[[Decision], Encoded],
) -> tuple[Decision, Encoded]:
    """What `decide_call` decides with these versions, together with what `encode` makes of it.

    If `encode` raises `UnencodableError` for a version, it is decided again with that version rejected, for which no
    further versions are wanted. `trekkpliktig` is who showed the order, empty if nobody has now.
    """
    while True:
        decision = decide_call(versions)
        try:
            return decision, encode(decision)
        except UnencodableError as error:
            failed, cause = error.trekkpaalegg, error.cause
            rejected = rejection_of(
                failed, trekkpliktig or failed.trekkpliktig, RejectionReason(cause.reason), cause.field_path
            )
            versions = {**versions, failed.trekkversjon: rejected}


class _Attempt:
    """One decision in progress. What a list showed is an answer like those that were fetched by number."""

    def __init__(
        self,
        order: OrderState,
        versions: Mapping[int, Fetched],
        now: int,
        trekkpliktig: str | None,
        history: Mapping[int, Collection[bytes]] = NO_HISTORY,
    ) -> None:
        self._before = order
        self._order = order
        self._versions = versions
        self._history = history
        self._now = now
        self._trekkpliktig = trekkpliktig
        self._answers = versions
        self._shown = 0
        self._origin = Origin.GAPFILL
        self._limit = order.trekkversjon + VERSION_JUMP_MAX
        known = max(order.trekkversjon, order.seen, order.missing[-1].last if order.missing else 0)
        self._top = min(known, self._limit)
        self._waits = order.seen > self._limit
        self._found = Decision(order)

    def observe(self, element: Element | None, version: int | None, origin: Origin) -> Decision:
        """Decide on the element that a list showed, or on the version, if the element has to be fetched."""
        self._origin = origin
        needed: set[int] = set()
        asks_again = not isinstance(element, Rejected)
        if element is None and version is not None:
            needed.add(version)
            fetched = self._versions.get(version)
            element = fetched if isinstance(fetched, Trekkpaalegg | Rejected) else None
        elif element is not None and element.trekkid is not None:
            version = element.trekkversjon
        if version is not None and version <= self._limit:
            self._shown = version
            self._top = max(self._top, version)
            if element is not None:
                self._answers = {version: element, **self._versions}
        elif isinstance(element, Rejected):
            self._quarantine(element)
        elif element is not None:
            if quarantine_hash(element) not in self._before.rejected:
                self._count(Counts(version_jumps=1))
            self._quarantine(self._rejection(element, RejectionReason.VERSION_JUMP, "trekkversjon"))
        needed |= self._pending()
        if asks_again:
            needed.update(self._missing_to_fetch(self._before.trekkversjon + 1, self._shown - 1))
        return self._decision(needed)

    def follow(self) -> Decision:
        """Decide by number: on what is open, and on each version beyond the newest until there is none."""
        needed = self._pending()
        needed.update(self._missing_to_fetch(1, self._before.missing[-1].last if self._before.missing else 0))
        while self._top < self._limit and isinstance(self._answers.get(self._top + 1), Trekkpaalegg | Rejected):
            self._top += 1
        if self._top < self._limit:
            needed.add(self._top + 1)
        return self._decision(needed)

    def _decision(self, needed: set[int]) -> Decision:
        wanted, wanted_history = needed - self._answers.keys(), self._to_look_up()
        if wanted or wanted_history is not None:
            return Decision(self._before, wanted=sorted(wanted), wanted_history=wanted_history)
        for number in sorted(self._answers):
            if number <= self._top:
                self._record(number, self._answers[number])
        self._publish_upwards()
        self._found.order = self._order_after()
        return self._found

    # Which versions to fetch

    def _pending(self) -> set[int]:
        """The versions above the newest that are neither published nor missing."""
        first = self._before.trekkversjon + 1
        pending = set(range(first, self._top + 1))
        for each in self._before.missing:
            pending.difference_update(range(max(each.first, first), min(each.last, self._top) + 1))
        return pending

    def _missing_to_fetch(self, first: int, last: int) -> list[int]:
        """Missing versions of first to last to ask for again: the newest of each range.

        If there are too many, the selection begins at another place at each try: otherwise many that are gone for good
        would keep the others from ever being fetched.
        """
        ranges = [
            range(max(each.first, first, min(each.last, last) - MISSING_PER_RANGE_MAX + 1), min(each.last, last) + 1)
            for each in self._before.missing
        ]
        found = [number for each in ranges for number in each]
        if len(found) <= MISSING_MAX:
            return found
        begin = Random(self._before.tried_at or 0).randrange(len(found))  # noqa: S311 - spreads calls, guards nothing
        return (found + found)[begin : begin + MISSING_MAX]

    # What becomes of them

    def _record(self, number: int, fetched: Fetched) -> None:
        """Remember an answer, and publish it if it is not above the newest version."""
        is_missing, is_above = self._before.is_missing(number), number > self._before.trekkversjon
        reason = None
        if isinstance(fetched, Rejected):
            self._quarantine(fetched)
            reason = REJECTED
        elif isinstance(fetched, Gone):
            reason = fetched.reason
            if is_above and not is_missing:
                self._count(Counts(gaps_missing=1))
        elif isinstance(fetched, Failed):
            if is_above and not is_missing:
                reason = self._given_up(number)
        elif is_above:
            self._order = replace(self._order, failing=without(self._order.failing, number, number))
        elif number == self._before.trekkversjon:
            self._compare(fetched)
        elif not is_missing:
            self._compare_with_history(fetched)
        else:
            origin = self._origin_of(number, Origin.RECONCILE)
            self._found.publications.append(Publication(fetched, origin, late=True, current=False))
            self._order = replace(self._order, missing=without(self._order.missing, number, number))
        if reason is not None and (is_above or is_missing):
            before = self._before.missing_reason(number)
            reason = f"{before.partition(':')[0]}: {reason}" if before.startswith(LOST) else reason
            self._order = replace(
                self._order,
                missing=with_missing(self._order.missing, number, number, reason),
                failing=without(self._order.failing, number, number),
            )

    def _origin_of(self, number: int, fetched: Origin) -> Origin:
        """The origin of this version; `fetched` if it is not the one that the list showed."""
        if self._before.missing_reason(number).startswith(LOST):
            return Origin.REPAIR
        return self._origin if number == self._shown else fetched

    def _is_lost_everywhere(self, number: int) -> bool:
        return self._before.missing_reason(number).startswith(LOST_EVERYWHERE)

    def _given_up(self, number: int) -> str | None:
        """The reason for which it is missing now, None while it is waited for."""
        since = self._order.failing_since(number)
        if since is not None and since > self._now:  # told by a clock that was ahead
            self._order = replace(self._order, failing=without(self._order.failing, number, number))
        failing = with_failing(self._order.failing, number, self._now)
        self._order = replace(self._order, failing=failing)
        since = self._order.failing_since(number)
        if since is None or self._now - since <= GAP_FAILING_MICROSECONDS_MAX:
            return None
        self._count(Counts(gaps_given_up=1))
        return FAILING

    def _compare(self, element: Trekkpaalegg) -> None:
        """Compare the newest version with what was published, by the method that its hash was made by.

        Nothing is concluded from a hash that is not known (method 0), nor from one by a newer program's method.
        """
        method, before = self._before.content_hash_version, self._before.content_hash
        is_same = method in METHODS and content_hash(element, method=method) == before
        if method == 0 or (is_same and method != CONTENT_HASH_VERSION):
            self._order = replace(
                self._order, content_hash=content_hash(element), content_hash_version=CONTENT_HASH_VERSION
            )
        if is_same or method not in METHODS:
            return
        if (
            element.trekkstatus is Trekkstatus.AVSLUTTET
            and content_hash(element, Trekkstatus.AKTIV, method=method) == before
        ):
            publication, self._order = correct(self._order, element, self._origin)
            self._found.publications.append(publication)
            return
        self._quarantine_changed(element)

    def _to_look_up(self) -> int | None:
        """The version that the list showed, if what was published of it is not in the state, and not known yet."""
        before, number = self._before, self._shown
        shown = self._answers.get(number)
        if (
            not isinstance(shown, Trekkpaalegg)
            or number >= before.trekkversjon
            or number in self._history
            or before.is_missing(number)
            or quarantine_hash(shown) in before.rejected
        ):
            return None
        return number

    def _compare_with_history(self, element: Trekkpaalegg) -> None:
        """Compare an older version with what was published of it, be it the version or a correction.

        It may be one that was observed long ago, and overtaken since.
        """
        published = self._history.get(element.trekkversjon)
        if published and content_hash(element) not in published:
            self._quarantine_changed(element)

    def _quarantine_changed(self, element: Trekkpaalegg) -> None:
        if quarantine_hash(element) not in self._before.rejected:
            self._count(Counts(changed_content=1))
        self._quarantine(self._rejection(element, RejectionReason.CHANGED_CONTENT, "$"))

    def _publish_upwards(self) -> None:
        """Publish what follows the newest version, up to the first that is waited for."""
        newest = None
        for number in range(self._before.trekkversjon + 1, self._top + 1):
            fetched = self._answers.get(number)
            if isinstance(fetched, Trekkpaalegg):
                newest = fetched
                if number != self._shown:
                    self._count(Counts(gaps_filled=1))
                origin = self._origin_of(number, Origin.GAPFILL)
                is_current = origin is not Origin.REPAIR or self._is_lost_everywhere(number)
                self._found.publications.append(Publication(fetched, origin, current=is_current))
                self._order = replace(
                    self._order, trekkversjon=number, missing=without(self._order.missing, number, number)
                )
            elif not self._order.is_missing(number):
                self._waits = True
                break
        if newest is not None:
            self._order = replace(
                self._order, content_hash=content_hash(newest), content_hash_version=CONTENT_HASH_VERSION
            )

    def _order_after(self) -> OrderState:
        before, order = self._before, self._order
        if not (order.missing or self._waits):
            order = replace(order, seen=0, failing=(), readers=(), tried_at=None)
        else:
            readers = before.readers
            if self._trekkpliktig is not None and self._trekkpliktig not in readers:
                readers = (*readers, self._trekkpliktig)
            order = replace(
                order,
                seen=max(self._top, before.seen) if self._waits else 0,
                failing=without(order.failing, 1, order.trekkversjon),
                readers=readers,
                tried_at=self._now if self._versions or not before.is_open else before.tried_at,
            )
        return before if order == before else order

    def _count(self, counts: Counts) -> None:
        self._found.counts += counts

    def _quarantine(self, rejected: Rejected) -> None:
        """Quarantine it, unless its hash is in the order's state already."""
        if rejected.raw_hash not in self._order.rejected:
            self._found.rejected.append(rejected)
            self._order = self._order.with_rejected(rejected.raw_hash)

    def _rejection(self, element: Trekkpaalegg, reason: RejectionReason, field_path: str) -> Rejected:
        return rejection_of(element, self._trekkpliktig or element.trekkpliktig, reason, field_path)


def correct(order: OrderState, element: Trekkpaalegg, origin: Origin) -> tuple[Publication, OrderState]:
    """The correction to publish for changed content of a published version, and the order's state after it."""
    number = order.corrections_of(element.trekkversjon) + 1
    corrections = {**dict(order.corrections), element.trekkversjon: number}
    newest = element.trekkversjon == order.trekkversjon
    order = replace(order, corrections=tuple(sorted(corrections.items())))
    if newest:
        order = replace(order, content_hash=content_hash(element), content_hash_version=CONTENT_HASH_VERSION)
    return Publication(element, origin, correction=number, current=newest), order


def rejection_of(element: Trekkpaalegg, trekkpliktig: str, reason: RejectionReason, field_path: str) -> Rejected:
    """The quarantine record of a version that was understood but is not published."""
    return Rejected(
        trekkpliktig=trekkpliktig,
        raw=element.raw,
        raw_hash=quarantine_hash(element),
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
