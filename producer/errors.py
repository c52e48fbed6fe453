"""The producer's own errors; those that it shares with the consumers are in `trekkpaalegg.errors`.

::

    TrekkpaaleggError
    ├── RetryableError
    │   └── AbortedError             a transaction was rolled back: take up from the last committed state
    ├── SuspendedError               this trekkpliktig only: pause it, serve all others
    ├── FatalError
    │   ├── FencedError              another instance owns the lane now               exit 3
    │   └── OutcomeUnknownError      a transaction may or may not stand: replace the producer, read the state back
    └── RejectedTrekkpaaleggError    one record cannot be understood: quarantine it, go on

No message holds a value that came from outside a field known to be free of personal data.
"""

from __future__ import annotations

from trekkpaalegg.errors import FatalError, RetryableError, TrekkpaaleggError


class AbortedError(RetryableError):
    """A transaction was rolled back as a whole; nothing of it stands."""


class SuspendedError(TrekkpaaleggError):
    """This trekkpliktig cannot be served now; every other one can."""


class FencedError(FatalError):
    """Another instance has taken the lane."""


class OutcomeUnknownError(FatalError):
    """Whether the last transaction was committed is not known to this producer object."""


class RejectedTrekkpaaleggError(TrekkpaaleggError):
    """One record cannot be understood. Names the field by its path; never holds a value."""

    def __init__(self, reason: str, field_path: str) -> None:
        self.reason = reason
        self.field_path = field_path
        super().__init__(f"{reason} at {field_path}")
