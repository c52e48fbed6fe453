"""The port of a feed of Altinn events, which a lane polls with a cursor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import msgspec

from producer.domain.state import EventCursor
from producer.notifications.event import Notification

if TYPE_CHECKING:
    from collections.abc import Container


class Pulled(msgspec.Struct, frozen=True):
    """The result of one call.

    `cursor` is where the next call continues. Store it only once `notifications` have been acted on: in the transaction
    that ends the readings which they led to, or after their wake-ups are in `…-signals`. A cursor that was not stored
    costs a reading; one that was stored too early would delay a change until the next poll.

    `outcomes` counts every event by its outcome. `has_more`: call again at once. `restarted`: Altinn did not know the
    cursor and started at its oldest event. `stuck`: it does so at every page.
    """

    notifications: tuple[Notification, ...]
    cursor: EventCursor
    outcomes: Mapping[str, int] = {}
    has_more: bool = False
    restarted: bool = False
    stuck: bool = False


class EventFeed(Protocol):
    """Safe for several threads."""

    def pull(self, trekkpliktig: str, cursor: EventCursor, served: Container[str]) -> Pulled:
        """Events about `trekkpliktig` after `cursor`; `served` are the trekkpliktige that we serve.

        Altinn returns no event younger than half a minute. Raises `RetryableError`, `SuspendedError` (this
        trekkpliktig) or `FatalError`; a failure never looks like "nothing has come".
        """
