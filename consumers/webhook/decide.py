"""What came of an attempt in, what to do with the event out: forget, send again and when, park, or stop. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from consumers.webhook.answer import Meaning, Outcome
from consumers.webhook.schedule import Waiting

if TYPE_CHECKING:
    from collections.abc import Callable

HOLD_SECONDS_MAX = 60.0
"""How long a receiver that is out of reach is left alone at most, unless it asks for more."""

_GROWTH = 2.0
_EXPONENT_MAX = 30
_JITTER = 0.2


class Patience(msgspec.Struct, frozen=True):
    """How long to go on. With the defaults the twelfth failure, after which an event is parked, comes after 2.4 hours.

    A pause is twice the one before, give or take a fifth, so that many do not come back at once.
    """

    attempts_max: int = 12
    first_pause_seconds: float = 5.0
    longest_pause_seconds: float = 3600.0

    def pause_seconds(self, tries: int, chance: float) -> float:
        """How long to wait after so many tries; `chance` is from 0 to 1."""
        grown = self.first_pause_seconds * _GROWTH ** min(tries - 1, _EXPONENT_MAX)
        return min(grown, self.longest_pause_seconds) * (1 - _JITTER + 2 * _JITTER * chance)


class Deliver(msgspec.Struct, frozen=True):
    """It has arrived: forget it."""

    waiting: Waiting


class Again(msgspec.Struct, frozen=True):
    """Send it again as `later` says; with `hold_until_seconds` nobody is sent before then."""

    waiting: Waiting
    later: Waiting
    words: str
    hold_until_seconds: float | None = None


class Park(msgspec.Struct, frozen=True):
    """Put it aside with its reason, until someone decides."""

    waiting: Waiting
    words: str


class Stop(msgspec.Struct, frozen=True):
    """Send nothing more, to nobody; this one stays."""

    waiting: Waiting
    words: str


Decision = Deliver | Again | Park | Stop


def decide(
    waiting: Waiting,
    outcome: Outcome,
    *,
    troubles: int,
    now_seconds: float,
    patience: Patience,
    chance: Callable[[], float],
) -> Decision:
    """What to do. `troubles` is how often in a row the receiver was out of reach before this; `chance` from 0 to 1.

    A receiver that is out of reach is no event's fault: such attempts never lead to parking, however many.
    A pause that the receiver asks for is kept when it is longer than ours.
    """
    asked = outcome.retry_after_seconds or 0.0
    tries = waiting.tries + 1
    pause = max(patience.pause_seconds(tries, chance()), asked)
    match outcome.meaning:
        case Meaning.DELIVERED:
            return Deliver(waiting)
        case Meaning.GONE:
            return Stop(waiting, outcome.words)
        case Meaning.REFUSED:
            return Park(waiting, outcome.words)
        case Meaning.UNAVAILABLE:
            hold = max(min(patience.pause_seconds(troubles + 1, chance()), HOLD_SECONDS_MAX), asked)
            # Where the receiver is away, the event comes back with it. Where only this event meets with it, time after
            # time, the others must not wait so often.
            mine = pause if troubles == 0 else min(pause, hold)
            later = msgspec.structs.replace(waiting, tries=tries, due_seconds=now_seconds + mine)
            return Again(waiting, later, outcome.words, now_seconds + hold)
        case Meaning.FAILED:
            failures = waiting.failures + 1
            if failures >= patience.attempts_max:
                return Park(waiting, f"{outcome.words}, at the last of {failures} attempts")
            later = Waiting(waiting.sequence, waiting.order, tries, failures, now_seconds + pause)
            return Again(waiting, later, outcome.words)
