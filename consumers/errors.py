"""The consumers' errors, grouped by what the caller does next.

::

    ConsumerError
    ├── SettingsError       refuse to start; carries every fault found    exit 2
    ├── RetryableError      try again
    │   ├── RefusedError    Kafka refuses us: a service waits until it does not, a command says so and ends
    │   ├── ForgottenError  the client has forgotten every broker, and needs a successor
    │   └── DisplacedError  fenced, but likely by ourselves: join the group anew, once
    ├── FatalError          stop, say why                                 exit 1
    │   ├── MisfitError     the Kafka settings do not hold together: wrong at the start, half renewed later
    │   └── InputError      a file that the user gave is wrong; carries every fault found
    ├── UndecodableError    one message cannot be decoded: keep its bytes, go on
    ├── FencedError         another process runs under our name: stop                  exit 3
    └── OvertakenError      another owner has moved the ledger's offsets: read them, and seek there

No message holds a value from an event.
"""

from __future__ import annotations


class ConsumerError(Exception):
    """Base of all errors that the consumers raise on purpose."""


class SettingsError(ConsumerError):
    """Settings or options are missing or wrong; `faults` lists every one, a line each."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("\n".join(faults))


class RetryableError(ConsumerError):
    """A passing failure."""


class RefusedError(RetryableError):
    """Kafka refuses certificate, user or password, or withholds a right. Says which; it may be mended at any time."""


class ForgottenError(RetryableError):
    """The client knows no broker any more, and never will again: a new one does. Nothing else is wrong."""


class FatalError(ConsumerError):
    """Nothing more can be done by this process."""


class MisfitError(FatalError):
    """The Kafka settings do not hold together. Who was refused before waits: certificate and key are being renewed."""


class InputError(FatalError):
    """A file that the user gave cannot be used; `faults` lists every one, a line each, and quotes nothing of it."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("\n".join(faults))


class UndecodableError(ConsumerError):
    """One message cannot be decoded. Says why, and never holds a value from it."""


class FencedError(ConsumerError):
    """Another process has taken over this one's name in the group."""


class DisplacedError(RetryableError, FencedError):
    """Fenced after the coordinator of the group was away, so likely by ourselves; a rival fences again soon."""


class OvertakenError(ConsumerError):
    """The ledger's offsets are not where this consumer left them: another one owns the partition, or a replay came."""
