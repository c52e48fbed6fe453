"""Which of Kafka's errors pass by themselves, which end reading, what to do, and calls that never return."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest
from confluent_kafka import KafkaError

from tests.kit.waiting import until
from trekkpaalegg.errors import FatalError, FencedError, RefusedError, RetryableError, UnknownTopicError, release_frames
from trekkpaalegg.kafka.clients import UnansweredError, call_bounded
from trekkpaalegg.kafka.diagnosis import LastReason
from trekkpaalegg.kafka.errors import ends_reading, is_transient, translate_reading

# Which of Kafka's errors pass by themselves, which end reading, and what the error tells the reader to do


def own(name: str) -> int:
    """A code of librdkafka's own, whose names begin with an underscore."""
    return getattr(KafkaError, f"_{name}")


TOPIC, GROUP = "p-versjoner", "trekkpaalegg-consumer-1"
PROPERTIES = {"sasl.username": "we", "sasl.password": "secret-1", "security.protocol": "sasl_ssl"}


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (KafkaError.UNKNOWN_TOPIC_OR_PART, UnknownTopicError, "no such topic; set TREKKPAALEGG_TOPIC_PREFIX"),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, RefusedError, f"does not permit User:we: READ on topic {TOPIC};"),
        (KafkaError.GROUP_AUTHORIZATION_FAILED, RefusedError, f"READ on group {GROUP}; grant it"),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, RefusedError, "acls apply --consumer-principal User:we`"),
        (KafkaError.SASL_AUTHENTICATION_FAILED, RefusedError, "certificates, user and password"),
        (KafkaError.FENCED_INSTANCE_ID, FencedError, "TREKKPAALEGG_INSTANCE_ID"),
        (own("TRANSPORT"), RetryableError, "KAFKA_BROKERS"),
        (own("TIMED_OUT"), RetryableError, "the brokers run"),
        (KafkaError.INVALID_REQUEST, FatalError, "see the settings for Kafka"),
    ],
)
def test_every_error_is_reported_with_what_to_do(code: int, kind: type[Exception], words: str) -> None:
    told = translate_reading(KafkaError(code), TOPIC, PROPERTIES, LastReason(), group_id=GROUP)
    assert type(told) is kind
    assert words in str(told)


def test_only_temporary_errors_are_retried() -> None:
    assert is_transient(KafkaError(own("ALL_BROKERS_DOWN")))
    assert is_transient(KafkaError(own("MAX_POLL_EXCEEDED")))
    assert is_transient(KafkaError(own("NOENT"), "Failed to query partition leaders: No leaders found"))
    assert is_transient(KafkaError(KafkaError.NOT_COORDINATOR, retriable=True))
    assert not is_transient(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))


@pytest.mark.parametrize(
    "code",
    [
        own("DESTROY_BROKER"),
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError.NOT_COORDINATOR,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.REPLICA_NOT_AVAILABLE,
    ],
)
def test_a_broker_that_leaves_comes_or_fails_is_waited_for_though_the_error_has_no_flag(code: int) -> None:
    assert is_transient(KafkaError(code))
    assert isinstance(
        translate_reading(KafkaError(code), TOPIC, PROPERTIES, LastReason(), group_id=GROUP), RetryableError
    )


def test_a_reader_without_a_group_needs_no_right_to_one() -> None:
    group, topic = KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED), KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    assert [ends_reading(group, joins_group=joined) for joined in (True, False)] == [True, False]
    assert [ends_reading(topic, joins_group=joined) for joined in (True, False)] == [True, True]


def test_a_wrong_password_or_certificate_is_a_refusal_and_a_missing_broker_is_not() -> None:
    def is_refusal(code: int, told: str) -> bool:
        reason = LastReason()
        reason.record(KafkaError(code, told))
        reason.record(KafkaError(own("ALL_BROKERS_DOWN")))
        return reason.is_refusal

    assert is_refusal(own("AUTHENTICATION"), "SASL authentication error")
    assert is_refusal(own("SSL"), "SSL handshake failed: certificate verify failed")
    assert is_refusal(own("TRANSPORT"), "Receive failed: tlsv13 alert certificate required: SSL alert number 116")
    assert not is_refusal(own("SSL"), "SSL handshake failed: Disconnected")
    assert not is_refusal(own("TRANSPORT"), "Connection refused")


# A call that never returns is abandoned in time; one that returns is left as it is


def test_a_call_that_returns_has_been_made() -> None:
    made: list[int] = []
    call_bounded(lambda: made.append(1), 60)
    assert made == [1]


def test_what_a_call_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        call_bounded(lambda: 1 // 0, 60)


def test_a_call_that_does_not_return_is_given_up() -> None:
    answered = threading.Event()
    with pytest.raises(UnansweredError):
        call_bounded(answered.wait, 0.05)
    answered.set()


class Client:
    """Stands for one that a call uses."""


@pytest.mark.parametrize("fails", [False, True])
def test_a_call_that_was_given_up_keeps_nothing_once_it_returns(fails: bool) -> None:
    answered = threading.Event()

    def give_up() -> tuple[weakref.ref[Client], BaseException]:
        client = Client()

        def call() -> None:
            answered.wait(60)
            if fails:
                raise ConnectionError(str(client))

        with pytest.raises(UnansweredError) as given_up:
            call_bounded(call, 0.05)
        return weakref.ref(client), given_up.value

    gc.disable()
    try:
        client, error = give_up()
        release_frames(error)  # as a worker does with the error of a lane
        assert client() is not None
        answered.set()
        until(lambda: client() is None, what="the client is given back")
    finally:
        gc.enable()
