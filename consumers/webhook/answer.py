"""An HTTP answer in, what it means for the event that was sent out. Pure.

| Answer | Means | Then |
|---|---|---|
| 2xx | delivered | the next event of the order |
| 400, 413, 422 | this event is refused, and would be again | parked at once |
| 410 | the address is gone for good | the forwarder stops |
| 429, 502, 503, 504, no connection | the receiver has no room or is away | all wait until it is back |
| any other, also 3xx and no answer in time | failed, perhaps in passing | tried again, parked after the limit |

401, 403 and 404 are among the last: they tell of wrong settings on either side, which someone will mend.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum

import msgspec

RETRY_AFTER_SECONDS_MAX = 24 * 3600.0
_REFUSED = frozenset({400, 413, 422})
_UNAVAILABLE = frozenset({429, 502, 503, 504})
_GONE = 410
_DIGITS_MAX = 12
_SUCCESS = range(200, 300)
_REDIRECT = range(300, 400)


class Meaning(Enum):
    """What came of an attempt."""

    DELIVERED = "delivered"
    FAILED = "failed"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    GONE = "gone"


class Outcome(msgspec.Struct, frozen=True):
    """What came of an attempt, in words that hold nothing of the event or of the answer's body."""

    meaning: Meaning
    words: str = ""
    retry_after_seconds: float | None = None
    """What the receiver asked for, at most a day."""


def outcome_of(status: int, retry_after: str | None, now: datetime) -> Outcome:
    """What an answer with this status and header `Retry-After` means. `now` is in UTC."""
    words = f"the receiver answered {status}"
    if status in _SUCCESS:
        return Outcome(Meaning.DELIVERED, words)
    if status in _REDIRECT:
        words += "; redirects are not followed: set the address that it redirects to"
    meaning = Meaning.FAILED
    if status in _REFUSED:
        meaning = Meaning.REFUSED
    elif status in _UNAVAILABLE:
        meaning = Meaning.UNAVAILABLE
    elif status == _GONE:
        meaning = Meaning.GONE
    return Outcome(meaning, words, retry_after_seconds(retry_after, now))


def retry_after_seconds(text: str | None, now: datetime) -> float | None:
    """Seconds to wait by a header `Retry-After`, in either form (RFC 9110 §10.2.3); None for none or nonsense."""
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:_DIGITS_MAX]), RETRY_AFTER_SECONDS_MAX)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max((moment - now).total_seconds(), 0.0), RETRY_AFTER_SECONDS_MAX)
