"""One trekkpliktig in, its subscription at Altinn as it should be out, or gone; and what was done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from producer.altinn.address import notification_address
from producer.altinn.subscription_plan import Subscription, ours_of, plan_of, wish_of

if TYPE_CHECKING:
    from producer.altinn.subscriptions import Subscriptions

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
        wish = wish_of(trekkpliktig, self._address)
        plan = plan_of(wish, self._ours(trekkpliktig))
        done: Done = "unchanged"
        standing = plan.standing
        if standing is None or plan.make:
            done = "made" if standing is None else "renewed"
            standing = self._subscriptions.make(trekkpliktig, wish)
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

    def looked_at_again(self, trekkpliktig: str, applied: Applied) -> Applied:
        """The same with what has become of the subscription since: validation takes Altinn a moment."""
        now = [self._subscriptions.look_at(trekkpliktig, each) for each in applied.standing]
        return msgspec.structs.replace(applied, standing=tuple(each for each in now if each is not None))

    def _ours(self, trekkpliktig: str) -> list[Subscription]:
        return ours_of(trekkpliktig, self._base_url, self._subscriptions.all_of(trekkpliktig))
