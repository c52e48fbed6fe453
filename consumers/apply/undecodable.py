"""The messages that a ledger holds as undecodable in, those that can be decoded now applied to it, and the rest out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from consumers.apply.apply import apply
from trekkpaalegg.incoming import Incoming, UndecodableMessage, again
from trekkpaalegg.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from consumers.ledger.port import Ledger
    from trekkpaalegg.decode import Decoder

BATCH_MESSAGES_MAX = 1000
_RETRY = Retry(attempts_max=5, pause_seconds_max=2.0)
_NEWEST_ONLY_TOPIC = "-gjeldende"


class RetryOutcome(msgspec.Struct):
    """How many messages were applied, and those that still cannot be decoded, with the reason of today."""

    applied: int = 0
    remaining: list[UndecodableMessage] = []


def retry_undecodable(ledger: Ledger, decoder: Decoder) -> RetryOutcome:
    """Try every message again. Messages from `…-gjeldende` count for the newest version alone, as when they came.

    A consumer may be at work on the same ledger meanwhile: the result depends on no order. Raises `FatalError`, and
    `RetryableError` when the ledger or the registry is in trouble at several attempts; what was applied until then
    stays applied.
    """
    outcome = RetryOutcome()
    messages = _RETRY(ledger.undecodable)
    for start in range(0, len(messages), BATCH_MESSAGES_MAX):
        decoded = []
        for message in messages[start : start + BATCH_MESSAGES_MAX]:
            found = _RETRY(again, message, decoder.decode_trekkpaalegg_versjon)
            if isinstance(found, Incoming):
                decoded.append((message, found))
            else:
                outcome.remaining.append(found)
        if decoded:
            _RETRY(_apply, ledger, decoded)
            outcome.applied += len(decoded)
    return outcome


def _apply(ledger: Ledger, decoded: Sequence[tuple[UndecodableMessage, Incoming]]) -> None:
    """In one transaction: what is applied is undecodable no more."""
    with ledger.transaction({}) as transaction:
        for newest_only in (False, True):
            batch = [
                found for _, found in decoded if found.coordinates.topic.endswith(_NEWEST_ONLY_TOPIC) is newest_only
            ]
            if batch:
                transaction.write(apply(transaction, batch, newest_only=newest_only))
        for message, _ in decoded:
            transaction.forget_undecodable(message)
