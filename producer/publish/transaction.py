"""From an error of a transaction to what is to be done about it: pure.

librdkafka flags its errors by what the application must do (librdkafka, "Transactional producer API"); it lacks
KIP-890, so after an outcome that is not known the producer must be replaced.
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
    """What is to be done."""

    CALL_AGAIN = "call_again"
    ABORT = "abort"
    REPLACE = "replace"
    """The producer can do no more, but nothing of the transaction can have been committed or all is unknown."""
    FENCED = "fenced"


class TransactionError(NamedTuple):
    """What librdkafka says of an error. `name` is its symbolic name, as `_FENCED`."""

    name: str
    retriable: bool
    requires_abort: bool
    fatal: bool


_FENCED_NAMES = frozenset({"_FENCED", "PRODUCER_FENCED", "INVALID_PRODUCER_EPOCH", "FENCED_INSTANCE_ID"})
_FORGOTTEN_NAMES = frozenset({"INVALID_PRODUCER_ID_MAPPING", "UNKNOWN_PRODUCER_ID"})
_NOT_IN_GROUP_NAMES = frozenset({"ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID", "REBALANCE_IN_PROGRESS"})


def judge(step: Step, error: TransactionError) -> Verdict:  # noqa: PLR0911 - a ladder has its rungs
    """What is to be done about this error of this step.

    A producer whose request to end a transaction has not been answered is never used again, though librdkafka asks for
    an abort: that request may be on its way yet, and would end the next transaction in its midst, so that a part of
    it stands without the rest. Only a new producer, by its epoch, shuts it out.
    A member that the group has put out may only abort: its lane will be taken from it. Producing is
    never repeated: some of the records are with librdkafka already. A transactional id that was idle for so long that
    the broker has forgotten it needs a new producer: librdkafka asks for an abort, and does not get a new id by it
    when the error met the offsets.
    """
    if error.name in _FENCED_NAMES:
        return Verdict.FENCED
    if error.fatal or error.name in _FORGOTTEN_NAMES:
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
