"""A `Membership` of a group in memory, without Kafka: it assigns lanes to workers and delivers signals.

It keeps the promises of the port (the same contract suite runs on it and on the real membership): lanes are shared
evenly, one is assigned only after its former owner learned that it is revoked, and signals come from the first
open offset. It refuses on demand.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from producer.group.port import Signal

if TYPE_CHECKING:
    from collections.abc import Callable

    from trekkpaalegg.errors import FatalError


class FakeMetadata(NamedTuple):
    """What a member sends along with a transaction."""

    member: int
    generation: int


class FakeGroup:
    """The group of workers of one application, and the signals of its lanes. Safe for several threads."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self.offsets: dict[int, int] = {}
        self.owners: dict[int, FakeMembership] = {}
        self.generation = 0
        self.changed = threading.Condition()
        self._members: list[FakeMembership] = []
        self._put_out: set[FakeMembership] = set()
        self._signals: dict[int, list[tuple[str, bytes | None]]] = {lane: [] for lane in range(lanes)}
        self._refused: set[int] = set()
        self._made = 0

    def membership(self) -> FakeMembership:
        """A worker's membership, not yet joined."""
        self._made += 1
        return FakeMembership(self, self._made)

    def signal(self, lane: int, trekkpliktig: str, value: bytes | None = None) -> int:
        """Add a signal to a lane; returns its offset."""
        with self.changed:
            self._signals[lane].append((trekkpliktig, value))
            self.changed.notify_all()
            return len(self._signals[lane]) - 1

    def refuse(self, lane: int) -> None:
        """Confirm nobody's ownership of this lane, until `accept`."""
        with self.changed:
            self._refused.add(lane)

    def accept(self, lane: int) -> None:
        """Undo `refuse`."""
        with self.changed:
            self._refused.discard(lane)

    def put_out(self, membership: FakeMembership) -> None:
        """Exclude a member that does not notice, as when its session ended while its process was suspended.

        It notices at its next poll but one, and until then believes that it owns its lanes; then it joins again.
        """
        with self.changed:
            self._members.remove(membership)
            self._put_out.add(membership)
            for lane in [lane for lane, owner in self.owners.items() if owner is membership]:
                del self.owners[lane]
            self._changed()

    # What the memberships call.

    def join(self, membership: FakeMembership) -> None:
        """Add the member; lanes are assigned again."""
        with self.changed:
            self._put_out.discard(membership)
            self._members.append(membership)
            self._changed()

    def leave(self, membership: FakeMembership) -> None:
        """Remove the member; its lanes are free."""
        with self.changed:
            if membership in self._members:
                self._members.remove(membership)
            for lane in [lane for lane, owner in self.owners.items() if owner is membership]:
                del self.owners[lane]
            self._changed()

    def is_put_out(self, membership: FakeMembership) -> bool:
        """Whether the member was excluded and has not joined again."""
        return membership in self._put_out

    def owns(self, membership: FakeMembership, lane: int) -> bool:
        """Whether the group confirms at this moment that this member owns the lane."""
        return self.owners.get(lane) is membership and lane not in self._refused

    def wanted(self, membership: FakeMembership) -> set[int]:
        """The lanes that this member will own once the others have released them."""
        if membership not in self._members:
            return set()
        number = self._members.index(membership)
        return {lane for lane in range(self.lanes) if lane % len(self._members) == number}

    def signals_from(self, lane: int, offset: int) -> list[Signal]:
        """The lane's signals from this offset on."""
        return [Signal(lane, at, *self._signals[lane][at]) for at in range(offset, len(self._signals[lane]))]

    def _changed(self) -> None:
        self.generation += 1
        self.changed.notify_all()


class FakeMembership:
    """One member of a `FakeGroup`."""

    def __init__(self, group: FakeGroup, number: int) -> None:
        self._group = group
        self._number = number
        self._lanes: set[int] = set()
        self._next: dict[int, int] = {}
        self._assigned: Callable[[dict[int, int]], None] | None = None
        self._revoked: Callable[[set[int]], None] | None = None
        self._polls_put_out = 0
        self._fatal: FatalError | None = None

    def join(self, assigned: Callable[[dict[int, int]], None], revoked: Callable[[set[int]], None]) -> None:
        """See the port."""
        self._assigned, self._revoked = assigned, revoked
        self._group.join(self)

    def poll(self, timeout_seconds: float) -> list[Signal]:
        """See the port."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            if self._fatal is not None:
                raise self._fatal
            changed = self._hand_over()
            with self._group.changed:
                signals = [
                    signal for lane in sorted(self._next) for signal in self._group.signals_from(lane, self._next[lane])
                ]
                for signal in signals:
                    self._next[signal.lane] = signal.offset + 1
                left = deadline - time.monotonic()
                if signals or changed or left <= 0:
                    return signals
                self._group.changed.wait(min(left, 0.01))

    def confirm(self, lane: int, first_open_offset: int) -> bool:
        """See the port."""
        with self._group.changed:
            if not self._group.owns(self, lane):
                return False
            self._group.offsets[lane] = first_open_offset
            return True

    def rewind(self, lane: int, first_open_offset: int) -> None:
        """See the port."""
        self._next[lane] = first_open_offset

    def metadata(self) -> FakeMetadata:
        """See the port."""
        return FakeMetadata(self._number, self._group.generation)

    def is_connected(self) -> bool | None:
        """See the port."""
        return True

    def trouble(self) -> str | None:
        """See the port."""
        return None

    def leave(self) -> None:
        """See the port."""
        lanes, self._lanes, self._next = self._lanes, set(), {}
        if lanes and self._revoked is not None:
            self._revoked(lanes)
        self._group.leave(self)

    def break_off(self, error: FatalError) -> None:
        """Every further poll raises this, as for one whose static id another process uses."""
        self._fatal = error

    def _hand_over(self) -> bool:
        """Release lanes assigned to others, then acquire free ones of ours. True if a lane changed hands."""
        if self._group.is_put_out(self):
            self._polls_put_out += 1
            if self._polls_put_out == 1:
                return True
            self._polls_put_out = 0
            self._let_go(set(self._lanes))
            self._group.join(self)
            return True
        with self._group.changed:
            leaving = self._lanes - self._group.wanted(self)
        if leaving:
            self._let_go(leaving)
        with self._group.changed:
            free = {lane for lane in self._group.wanted(self) if lane not in self._group.owners}
            for lane in free:
                self._group.owners[lane] = self
            offsets = {lane: self._group.offsets.get(lane, 0) for lane in sorted(free)}
        if free:
            self._lanes |= free
            self._next |= offsets
            if self._assigned is not None:
                self._assigned(offsets)
        return bool(leaving or free)

    def _let_go(self, lanes: set[int]) -> None:
        self._lanes -= lanes
        for lane in lanes:
            self._next.pop(lane, None)
        if self._revoked is not None:
            self._revoked(lanes)
        with self._group.changed:
            for lane in lanes:
                if self._group.owners.get(lane) is self:
                    del self._group.owners[lane]
            self._group.changed.notify_all()
