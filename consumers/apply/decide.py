"""Decides what a batch of events changes in the ledger: new versions, conflicts, the newest of each order. Pure.

The result does not depend on the order in which events come, nor on how they are cut into batches or how often they
come again, for each (trekkid, trekkversjon, correction) that has one content. Where it has several, the first one
is kept and every other is a conflict.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from consumers.ledger.port import Changes, StoredVersion
from trekkpaalegg.incoming import Coordinates, IncomingEvent, Partition

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from consumers.ledger.port import Version

_NOTHING = (0, 0)
"""Below the newest version of every order: trekkversjon begins at 1."""


class Rewriting(msgspec.Struct, frozen=True):
    """Which events replace what the ledger says otherwise of the same version: those that it has passed already.

    `limits` are its offsets and `conflicts` the events that it has recorded as such, both as of one moment. A conflict
    came second and stays one, whichever of the two is read again; what lies beyond is applied as ever.
    """

    limits: dict[Partition, int]
    conflicts: frozenset[Coordinates]

    def trusts(self, at: Coordinates) -> bool:
        """Whether the event there is what its version is to say."""
        return at.offset < self.limits.get(Partition(at.topic, at.partition), 0) and at not in self.conflicts


def orders_of(batch: Iterable[IncomingEvent]) -> set[str]:
    """The orders (trekkid) whose newest version must be known."""
    return {incoming.event.trekkid for incoming in batch}


def versions_to_look_up(batch: Iterable[IncomingEvent], newest: Mapping[str, tuple[int, int]]) -> set[Version]:
    """The versions that the history may have: those not above the newest of their order. Most batches have none."""
    found = set()
    for incoming in batch:
        event = incoming.event
        if event.trekkversjon <= newest.get(event.trekkid, _NOTHING)[0]:
            found.add((event.trekkid, event.trekkversjon))
    return found


def decide(
    batch: Iterable[IncomingEvent],
    newest: Mapping[str, tuple[int, int]],
    stored: Mapping[Version, StoredVersion],
    *,
    rewriting: Rewriting | None = None,
) -> Changes:
    """What a batch from `…-versjoner` changes.

    `newest` is (trekkversjon, correction) by trekkid, `stored` what the history has of `versions_to_look_up`.
    A version enters the history once; a higher correction takes its place there, and what it said before is kept as
    replaced, as is a lower correction that comes after. The newest version only moves forward.
    With `rewriting` the events that it trusts replace what the ledger says of the same version and correction.
    """
    changes = Changes()
    ahead = dict(newest)
    history: dict[Version, IncomingEvent | StoredVersion] = dict(stored)
    touched: dict[Version, IncomingEvent] = {}
    replaced: dict[tuple[Version, int], StoredVersion] = {}
    for incoming in batch:
        event, correction = incoming.event, incoming.correction
        version = (event.trekkid, event.trekkversjon)
        found = history.get(version)
        trusted = rewriting is not None and rewriting.trusts(incoming.coordinates)
        if found is not None:
            if correction == found.correction and not (trusted and isinstance(found, StoredVersion)):
                if event != found.event:
                    changes.conflicts.append(incoming)
                continue
            if correction < found.correction:
                known = replaced.setdefault((version, correction), _stored(incoming))
                if known.event != event:
                    changes.conflicts.append(incoming)
                continue
            if correction > found.correction:
                replaced.setdefault((version, found.correction), _stored(found))
        history[version] = touched[version] = incoming
        place = (event.trekkversjon, correction)
        before = ahead.get(event.trekkid, _NOTHING)
        if place > before or (trusted and place == before):
            ahead[event.trekkid] = place
            changes.newest[event.trekkid] = incoming
    if stored:
        changes.inserted = [incoming for version, incoming in touched.items() if version not in stored]
        changes.corrected = [incoming for version, incoming in touched.items() if version in stored]
    else:
        changes.inserted = list(touched.values())
    changes.replaced = [(version, content) for (version, _), content in replaced.items()]
    return changes


def decide_newest(batch: Iterable[IncomingEvent], newest: Mapping[str, tuple[int, int]]) -> Changes:
    """What a batch changes in a ledger that keeps no history: only the newest version of each order counts."""
    changes = Changes()
    ahead = dict(newest)
    for incoming in batch:
        event = incoming.event
        place = (event.trekkversjon, incoming.correction)
        if place > ahead.get(event.trekkid, _NOTHING):
            ahead[event.trekkid] = place
            changes.newest[event.trekkid] = incoming
    return changes


def _stored(content: IncomingEvent | StoredVersion) -> StoredVersion:
    if isinstance(content, StoredVersion):
        return content
    return StoredVersion(content.event, content.late, content.correction)
