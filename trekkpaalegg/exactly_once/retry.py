"""Messages that could not be decoded when they came, decoded again: after a fix, or with a newer version."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

from trekkpaalegg.exactly_once.worker import Transaction
from trekkpaalegg.incoming import IncomingEvent, UndecodableMessage, decode_again
from trekkpaalegg.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trekkpaalegg.decode import Decoder
    from trekkpaalegg.exactly_once.worker import Store

T = TypeVar("T", bound=Transaction)

BATCH_MESSAGES_MAX = 1000
_RETRY = Retry(attempts_max=5, pause_seconds_max=2.0)


class RetryOutcome(msgspec.Struct):
    """How many messages were handled, and those that still cannot be decoded, with the reason of today."""

    applied: int = 0
    remaining: list[UndecodableMessage] = []


def retry_undecodable(
    store: Store[T], decoder: Decoder, handle: Callable[[T, Sequence[IncomingEvent]], object]
) -> RetryOutcome:
    """Decode every stored message again, and handle the events of those that succeed, each once.

    A consumer may work on the same database meanwhile. Raises `FatalError`, and `RetryableError` when the database or
    the registry fails several times in a row; what was handled until then stays.
    """
    outcome = RetryOutcome()
    messages = _RETRY(store.undecodable)
    for start in range(0, len(messages), BATCH_MESSAGES_MAX):
        decoded = []
        for message in messages[start : start + BATCH_MESSAGES_MAX]:
            found = _RETRY(decode_again, message, decoder.decode_trekkpaalegg_versjon)
            if isinstance(found, IncomingEvent):
                decoded.append((message, found))
            else:
                outcome.remaining.append(found)
        if decoded:
            _RETRY(_handle, store, decoded, handle)
            outcome.applied += len(decoded)
    return outcome


def _handle(
    store: Store[T],
    decoded: Sequence[tuple[UndecodableMessage, IncomingEvent]],
    handle: Callable[[T, Sequence[IncomingEvent]], object],
) -> None:
    """In one transaction: what was handled is undecodable no more."""
    with store.transaction({}) as transaction:
        for message, _ in decoded:
            transaction.forget_undecodable(message)
        handle(transaction, [event for _, event in decoded])
