"""Decides what to do about an error of a transaction. Pure.

librdkafka flags its errors by what the application must do (librdkafka, "Transactional producer API"). It does not
implement KIP-890, so the producer must be replaced after an unknown outcome.
"""

from __future__ import annotations

import enum
from typing import NamedTuple


class Step(enum.Enum):
    """The call that failed."""

    BEGIN = "begin"
    PRODUCE = "produce"
    OFFSETS = "offsets"
    COMMIT = "commit"
    ABORT = "abort"


class Verdict(enum.Enum):
    """What to do next."""

    CALL_AGAIN = "call_again"
    ABORT = "abort"
    REPLACE = "replace"
    """The producer cannot be used any more; the transaction is not committed, or its outcome is unknown."""
    FENCED = "fenced"


class TransactionError(NamedTuple):
    """An error of librdkafka. `name` is its symbolic name, such as `_FENCED`."""

    name: str
    retriable: bool
    requires_abort: bool
    fatal: bool


_FENCED_NAMES = frozenset({"_FENCED", "PRODUCER_FENCED", "INVALID_PRODUCER_EPOCH", "FENCED_INSTANCE_ID"})
_EXPIRED_NAMES = frozenset({"INVALID_PRODUCER_ID_MAPPING", "UNKNOWN_PRODUCER_ID"})
_NOT_IN_GROUP_NAMES = frozenset({"ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID", "REBALANCE_IN_PROGRESS"})


def judge(step: Step, error: TransactionError) -> Verdict:  # noqa: PLR0911 - a ladder has its rungs
    """What to do about this error of this step.

    A producer whose request to end a transaction was not answered is never used again, although librdkafka asks for an
    abort: the request may still be on its way, and would end the next transaction halfway, so that a part of it is
    committed without the rest. Only the epoch of a new producer keeps it out.

    A member that was removed from the group may only abort, as it will lose the lane. Producing is never repeated, as
    librdkafka already has some of the records. A transactional id that was idle for so long that the broker has
    expired it needs a new producer: librdkafka asks for an abort, but that does not get it a new producer id if the
    error met the offsets.
    """
    if error.name in _FENCED_NAMES:
        return Verdict.FENCED
    if error.fatal or error.name in _EXPIRED_NAMES:
        return Verdict.REPLACE
    if step in {Step.COMMIT, Step.ABORT}:
        return Verdict.REPLACE
    if error.requires_abort or step is Step.PRODUCE:
        return Verdict.ABORT
    if error.retriable:
        return Verdict.CALL_AGAIN
    if step is Step.OFFSETS and error.name in _NOT_IN_GROUP_NAMES:
        return Verdict.ABORT
    return Verdict.REPLACE
