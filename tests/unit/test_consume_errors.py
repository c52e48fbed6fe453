"""What a consumer makes of Kafka's errors: which pass, which end it, and what it says."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError

from consumers.errors import FatalError, FencedError, RetryableError
from consumers.stream.kafka_errors import passes, refuses, translated


def own(name: str) -> int:
    """A code of librdkafka's own, whose names begin with an underscore."""
    return getattr(KafkaError, f"_{name}")


TOPIC, GROUP = "p-versjoner", "trekkpaalegg-consumer-1"


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (KafkaError.UNKNOWN_TOPIC_OR_PART, FatalError, "no such topic; set TREKKPAALEGG_TOPIC_PREFIX"),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, FatalError, f"{TOPIC}: Kafka does not let this client read it"),
        (KafkaError.GROUP_AUTHORIZATION_FAILED, FatalError, f"join the group {GROUP}; ask for an ACL"),
        (KafkaError.SASL_AUTHENTICATION_FAILED, FatalError, "certificates, user and password"),
        (KafkaError.FENCED_INSTANCE_ID, FencedError, "TREKKPAALEGG_INSTANCE_ID"),
        (own("TRANSPORT"), RetryableError, "KAFKA_BROKERS"),
        (own("TIMED_OUT"), RetryableError, "the brokers run"),
        (KafkaError.INVALID_REQUEST, FatalError, "see the settings for Kafka"),
    ],
)
def test_every_error_is_told_with_what_to_do(code: int, kind: type[Exception], words: str) -> None:
    told = translated(KafkaError(code), TOPIC, GROUP)
    assert type(told) is kind
    assert words in str(told)


def test_only_what_mends_itself_passes() -> None:
    assert passes(KafkaError(own("ALL_BROKERS_DOWN")))
    assert passes(KafkaError(own("MAX_POLL_EXCEEDED")))
    assert passes(KafkaError(KafkaError.NOT_COORDINATOR, retriable=True))
    assert not passes(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))


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
    assert passes(KafkaError(code))
    assert isinstance(translated(KafkaError(code), TOPIC, GROUP), RetryableError)


def test_what_never_mends_itself_is_a_refusal() -> None:
    assert refuses(KafkaError(own("FATAL"), "x", fatal=True))
    assert refuses(KafkaError(own("AUTHENTICATION")))
    assert not refuses(KafkaError(own("SSL"))), "a handshake that was cut off"
    assert not refuses(KafkaError(own("TRANSPORT")))
