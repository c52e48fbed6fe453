"""The errors that the library, the producer and the consumers share, grouped by what the caller does next.

::

    TrekkpaaleggError
    ├── SettingsError       refuse to start; carries every fault found    exit 2
    │   └── KafkaSettingsError  librdkafka rejects them: wrong at the start, half renewed later
    ├── RetryableError      try again, after `retry_after_seconds` if given
    │   ├── RefusedError    Kafka refuses a login or a right: a service waits until it no longer does, a command ends
    │   ├── ForgottenError  the client has forgotten every broker: replace the client
    │   └── DisplacedError  fenced, but probably by ourselves: join the group again, once
    ├── FatalError          stop, say why                                 exit 1
    │   └── UnknownTopicError   there is no such topic, or a broker that has just started does not know it yet
    ├── UndecodableError    one message cannot be decoded: keep its bytes, continue
    ├── FencedError         another process runs under our name: stop     exit 3
    └── OvertakenError      another owner has moved the stored offsets: read them, and seek there

Adapters translate every foreign exception at their border and chain it. No message holds a value from an event.
"""

from __future__ import annotations

from traceback import clear_frames


class TrekkpaaleggError(Exception):
    """Base of all errors that this project raises on purpose."""


class SettingsError(TrekkpaaleggError):
    """Settings or options are missing or wrong; `faults` lists every one, a line each."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("\n".join(faults))


class KafkaSettingsError(SettingsError):
    """librdkafka rejects the Kafka settings. While a certificate and its key are being renewed, that passes."""


class RetryableError(TrekkpaaleggError):
    """A temporary failure. `retry_after_seconds` is the pause that the other side requested, if it did."""

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(message)


class RefusedError(RetryableError):
    """Kafka refuses a certificate, user or password, or a right, which the message names. Nothing was written."""


class ForgottenError(RetryableError):
    """The client has forgotten every broker and cannot recover; a new client can. Nothing else is wrong."""


class FatalError(TrekkpaaleggError):
    """This process cannot continue; a person must act."""


class UnknownTopicError(FatalError):
    """There is no such topic."""


class UndecodableError(TrekkpaaleggError):
    """One message cannot be decoded. Says why, and never holds a value from it."""


class FencedError(TrekkpaaleggError):
    """Another process uses the same name in the group, and has fenced this one."""


class DisplacedError(RetryableError, FencedError):
    """Fenced after the coordinator of the group was away, so probably by ourselves; a rival fences again soon."""


class OvertakenError(TrekkpaaleggError):
    """The stored offsets are not where this consumer left them: another one owns the partition, or a replay came."""


class StoppedError(BaseException):
    """A signal to end came while a command was at work."""


def release_frames(error: BaseException) -> None:
    """Have the frames of an error, and of those that led to it, release what they hold. Their lines stay.

    An error that one of its own frames holds is a cycle. Until that is collected, which takes long in a quiet process,
    it would keep what was used: a Kafka client with four threads, or the state of a lane.
    """
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            clear_frames(each.__traceback__)
            waiting += (each.__cause__, each.__context__)
