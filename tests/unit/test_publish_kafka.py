"""A lane's producer: its properties, lost connections, and what an error of a transaction means."""

from __future__ import annotations

import itertools
import logging

import pytest

from producer.publish.kafka import ConnectionLog, producer_properties
from producer.publish.transaction import Step, TransactionError, Verdict, judge

# What an error of a transaction means, by the step in which it occurred and the flags that librdkafka gave it
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
def test_a_fatal_error_replaces_the_producer_even_if_it_also_requires_an_abort_or_a_retry(step):
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
def test_an_error_that_requires_an_abort_gets_one_unless_the_end_was_requested(step, verdict):
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
def test_a_retriable_error_repeats_the_call_except_when_producing_or_ending(step, verdict):
    """Some of the records are handed over; and an end that is asked for twice may end the next transaction too."""
    assert judge(step, error("_TIMED_OUT", retriable=True)) is verdict


@pytest.mark.parametrize("name", ["ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID", "REBALANCE_IN_PROGRESS"])
def test_a_member_that_the_group_excluded_aborts_when_it_sends_its_offset(name):
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


# A lost connection, which librdkafka reports only in its log
NAME = "rdkafka#producer-3"
LINE = "%s [%s] %s"


@pytest.mark.parametrize(
    ("kind", "text", "is_lost", "is_any"),
    [
        (
            "FAIL",
            "[thrd:TxnCoordinator]: TxnCoordinator: 127.0.0.1:9092: Disconnected: connection closed",
            True,
            True,
        ),
        ("REQTMOUT", "[thrd:TxnCoordinator]: TxnCoordinator/1: Timed out 1 in-flight, 0 retry-queued", True, True),
        ("FAIL", "[thrd:127.0.0.1:9092/1]: 127.0.0.1:9092/1: Disconnected: connection closed", False, True),
        ("GETPID", "[thrd:TxnCoordinator]: coordinator load in progress", False, False),
    ],
)
def test_lost_connections_are_counted_and_every_line_is_passed_on(caplog, kind, text, is_lost, is_any):
    log = ConnectionLog(logging.getLogger("librdkafka"))
    with caplog.at_level(logging.INFO, logger="librdkafka"):
        log.log(logging.INFO, LINE, kind, NAME, text)
    assert (log.has_lost_coordinator, log.has_lost_broker) == (is_lost, is_any)
    assert caplog.messages == [f"{kind} [{NAME}] {text}"]
    log.forget()
    assert (log.has_lost_coordinator, log.has_lost_broker) == (False, False)


def test_a_line_of_another_shape_is_passed_on_too(caplog):
    log = ConnectionLog(logging.getLogger("librdkafka"))
    with caplog.at_level(logging.INFO, logger="librdkafka"):
        log.log(logging.INFO, "no arguments")
    assert not log.has_lost_coordinator
    assert caplog.messages == ["no arguments"]


# Properties: the user's count, except those that the guarantee depends on


def made(**given):
    properties = {name.replace("_", "."): value for name, value in given.items()}
    return producer_properties(properties, "app-3", 1_000_000)


def test_properties_that_the_guarantee_needs_cannot_be_overridden():
    told = made(transactional_id="other", partitioner="consistent", transaction_timeout_ms="1")
    assert (told["transactional.id"], told["partitioner"]) == ("app-3", "murmur2_random")
    assert told["transaction.timeout.ms"] == "15000"


def test_retries_of_a_transaction_right_after_another_are_quick_unless_the_user_sets_the_backoff():
    """Kafka refuses the offsets of the next until the markers of the one before are written, some milliseconds."""
    librdkafka_milliseconds = 100
    assert 0 < int(made()["retry.backoff.ms"]) <= librdkafka_milliseconds / 10
    assert made(retry_backoff_ms="250")["retry.backoff.ms"] == "250"
