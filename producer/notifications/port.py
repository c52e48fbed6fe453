"""Altinn's events as whoever pulls them sees them: a cursor in, what has come since and the next cursor out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import msgspec

from producer.domain.state import EventCursor
from producer.notifications.event import Notification

if TYPE_CHECKING:
    from collections.abc import Container


class Pulled(msgspec.Struct, frozen=True):
    """What one call brought.

    `cursor` is where the next call continues. Store it only once `notifications` have been acted on: in the transaction
    that ends the readings which they led to, or after their wake-ups are in `…-signals`. A cursor that was not stored
    costs a reading; one that was stored too early would delay a change until the next poll.

    `outcomes` counts every event by what it was. `has_more` asks to be called again at once. `restarted` says that
    Altinn did not know the cursor and began at its oldest event; `stuck` that it does so at every page.
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
        """Events about `trekkpliktig` after `cursor`; `served` are those that we serve.

        Altinn gives none that is younger than half a minute. Raises `RetryableError`, `SuspendedError` (this
        trekkpliktig) or `FatalError`; a failure never looks like "nothing has come".
        """
