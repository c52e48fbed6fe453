"""What an error of a transaction means, by the step that met it and the flags that librdkafka gave it."""

from __future__ import annotations

import itertools

import pytest

from producer.publish.transaction import Step, TransactionError, Verdict, judge

FENCED_NAMES = ["_FENCED", "PRODUCER_FENCED", "INVALID_PRODUCER_EPOCH", "FENCED_INSTANCE_ID"]


def error(name="_WHATEVER", *, retriable=False, requires_abort=False, fatal=False):
    return TransactionError(name, retriable, requires_abort, fatal)


@pytest.mark.parametrize(("name", "step"), list(itertools.product(FENCED_NAMES, Step)))
def test_fenced_is_fenced_at_every_step_whatever_the_flags(name, step):
    for retriable, requires_abort, fatal in itertools.product([False, True], repeat=3):
        flags = {"retriable": retriable, "requires_abort": requires_abort, "fatal": fatal}
        assert judge(step, error(name, **flags)) is Verdict.FENCED


@pytest.mark.parametrize("step", Step)
def test_transactional_id_that_the_broker_has_forgotten_replaces_the_producer(step):
    assert judge(step, error("INVALID_PRODUCER_ID_MAPPING", requires_abort=True)) is Verdict.REPLACE


@pytest.mark.parametrize("step", Step)
def test_fatal_error_replaces_the_producer_even_where_it_also_asks_for_an_abort_or_another_call(step):
    assert judge(step, error(fatal=True)) is Verdict.REPLACE
    assert judge(step, error(fatal=True, requires_abort=True)) is Verdict.REPLACE
    assert judge(step, error(fatal=True, retriable=True)) is Verdict.REPLACE


@pytest.mark.parametrize(
    ("step", "verdict"),
    [
        (Step.BEGIN, Verdict.ABORT),
        (Step.PRODUCE, Verdict.ABORT),
        (Step.OFFSETS, Verdict.ABORT),
        (Step.COMMIT, Verdict.REPLACE),
        (Step.ABORT, Verdict.REPLACE),
    ],
)
def test_error_that_requires_an_abort_gets_one_unless_the_end_has_been_asked_for(step, verdict):
    assert judge(step, error(requires_abort=True)) is verdict
    assert judge(step, error(requires_abort=True, retriable=True)) is verdict


@pytest.mark.parametrize(
    ("step", "verdict"),
    [
        (Step.BEGIN, Verdict.CALL_AGAIN),
        (Step.PRODUCE, Verdict.ABORT),
        (Step.OFFSETS, Verdict.CALL_AGAIN),
        (Step.COMMIT, Verdict.REPLACE),
        (Step.ABORT, Verdict.REPLACE),
    ],
)
def test_retriable_error_is_met_by_the_same_call_save_when_producing_or_ending(step, verdict):
    """Some of the records are handed over; and an end that is asked for twice may end the next transaction too."""
    assert judge(step, error("_TIMED_OUT", retriable=True)) is verdict


@pytest.mark.parametrize("name", ["ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID", "REBALANCE_IN_PROGRESS"])
def test_member_that_the_group_has_put_out_aborts_when_it_sends_its_offset(name):
    assert judge(Step.OFFSETS, error(name)) is Verdict.ABORT
    assert judge(Step.COMMIT, error(name)) is Verdict.REPLACE


@pytest.mark.parametrize("step", [Step.BEGIN, Step.OFFSETS, Step.COMMIT, Step.ABORT])
def test_error_without_any_flag_replaces_the_producer(step):
    assert judge(step, error("INVALID_TXN_STATE")) is Verdict.REPLACE


def test_whatever_fails_a_produce_is_rolled_back():
    assert judge(Step.PRODUCE, error("_QUEUE_FULL")) is Verdict.ABORT


@pytest.mark.parametrize("step", [Step.COMMIT, Step.ABORT])
def test_no_producer_whose_end_of_a_transaction_failed_is_used_again(step):
    """Its request may be on its way yet, and would end the next transaction in its midst."""
    for flags in itertools.product([False, True], repeat=3):
        assert judge(step, TransactionError("_TIMED_OUT", *flags)) is Verdict.REPLACE
