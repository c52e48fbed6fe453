"""The producer's errors, grouped by what the caller does next.

::

    ProducerError
    ├── SettingsError                refuse to start; carries every fault found       exit 2
    ├── RetryableError               try again, after `retry_after_seconds` if given
    │   ├── AbortedError             a transaction was rolled back: take up from the last committed state
    │   └── NotPermittedError        Kafka withholds a right: a service waits until it is granted, a command says so
    ├── SuspendedError               this trekkpliktig only: pause it, serve all others
    ├── FatalError                   stop, say why                                    exit 1
    │   ├── FencedError              another instance owns the lane now               exit 3
    │   └── OutcomeUnknownError      a transaction may or may not stand: replace the producer, read the state back
    └── RejectedTrekkpaaleggError    one record cannot be understood: quarantine it, go on

Adapters translate every foreign exception at their border and chain it. No message holds a value that
came from outside a field known to be free of personal data.
"""

from __future__ import annotations


class ProducerError(Exception):
    """Base of all errors that the producer raises on purpose."""


class SettingsError(ProducerError):
    """Settings are missing or wrong; `faults` lists every one, a line each."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("\n".join(faults))


class RetryableError(ProducerError):
    """A passing failure. `retry_after_seconds` is what the other side asked for, if it did."""

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(message)


class AbortedError(RetryableError):
    """A transaction was rolled back as a whole; nothing of it stands."""


class NotPermittedError(RetryableError):
    """Kafka withholds a right, which the message names. Nothing was written; it may be granted at any time."""


class SuspendedError(ProducerError):
    """This trekkpliktig cannot be served now; every other one can."""


class FatalError(ProducerError):
    """Nothing more can be done by this process."""


class FencedError(FatalError):
    """Another instance has taken the lane."""


class OutcomeUnknownError(FatalError):
    """Whether the last transaction was committed is not known to this producer object."""


class RejectedTrekkpaaleggError(ProducerError):
    """One record cannot be understood. Names the field by its path; never holds a value."""

    def __init__(self, reason: str, field_path: str) -> None:
        self.reason = reason
        self.field_path = field_path
        super().__init__(f"{reason} at {field_path}")
