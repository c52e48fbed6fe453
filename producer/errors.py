"""The producer's own errors; those that it shares with the consumers are in `trekkpaalegg.errors`.

::

    TrekkpaaleggError
    ├── RetryableError
    │   └── AbortedError             a transaction was rolled back: continue from the last committed state
    ├── SuspendedError               only this trekkpliktig: pause it, serve all others
    ├── ObservationsLostError        have every list shown again, and continue with what is there
    ├── FatalError
    │   ├── LaneFencedError          a FencedError: another instance owns the lane now    exit 3
    │   └── OutcomeUnknownError      it may or may not be committed: replace the producer, read the state back
    └── RejectedTrekkpaaleggError    one record cannot be understood: quarantine it and continue

No message holds a value that came from outside a field known to be free of personal data.
"""

from __future__ import annotations

from trekkpaalegg.errors import FatalError, FencedError, RetryableError, TrekkpaaleggError


class AbortedError(RetryableError):
    """A transaction was rolled back as a whole; nothing of it is committed."""


class SuspendedError(TrekkpaaleggError):
    """This trekkpliktig cannot be served now; every other one can."""


class ObservationsLostError(TrekkpaaleggError):
    """Observations that their home had not decided on are no longer in Kafka."""


class LaneFencedError(FatalError, FencedError):
    """Another instance has acquired the lane."""


class OutcomeUnknownError(FatalError):
    """It is not known whether the last transaction was committed."""


class RejectedTrekkpaaleggError(TrekkpaaleggError):
    """One record cannot be understood. It names the field by its path and never holds a value."""

    def __init__(self, reason: str, field_path: str) -> None:
        self.reason = reason
        self.field_path = field_path
        super().__init__(f"{reason} at {field_path}")
