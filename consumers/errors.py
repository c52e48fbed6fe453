"""The consumers' errors, grouped by what the caller does next.

::

    ConsumerError
    ├── RetryableError      try again
    ├── FatalError          stop, say why
    └── UndecodableError    one message cannot be decoded: keep its bytes, go on

No message holds a value from an event.
"""

from __future__ import annotations


class ConsumerError(Exception):
    """Base of all errors that the consumers raise on purpose."""


class RetryableError(ConsumerError):
    """A passing failure."""


class FatalError(ConsumerError):
    """Nothing more can be done by this process."""


class UndecodableError(ConsumerError):
    """One message cannot be decoded. Says why, and never holds a value from it."""
