"""An error of Kafka's in, the consumers' own error that says what to do out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import KafkaError

from trekkpaalegg.errors import FatalError, FencedError, RefusedError, RetryableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trekkpaalegg.kafka.diagnosis import LastReason

# Codes of librdkafka's own begin with an underscore.
ALL_DOWN = KafkaError._ALL_BROKERS_DOWN  # noqa: SLF001 - see above
UNKNOWN_TOPIC = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC})  # noqa: SLF001 - see above
_PASSING = frozenset(
    {
        KafkaError._TRANSPORT,  # noqa: SLF001 - see above
        KafkaError._RESOLVE,  # noqa: SLF001 - see above
        KafkaError._TIMED_OUT,  # noqa: SLF001 - see above
        KafkaError._MAX_POLL_EXCEEDED,  # noqa: SLF001 - see above
        KafkaError._DESTROY_BROKER,  # noqa: SLF001 - see above
        KafkaError._UNKNOWN_BROKER,  # noqa: SLF001 - see above
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001 - see above
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.NOT_COORDINATOR,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        ALL_DOWN,
    }
)
"""What a broker says that starts, stops, hands over or has lost its disk, and what librdkafka says of one that is gone.

librdkafka does not mark all of them as retriable wherever they come from. Now and then it calls a partition unknown
that exists (confluentinc/confluent-kafka-python#1043; seen after a request had timed out).
"""
_SILENT = frozenset({KafkaError._TRANSPORT, KafkaError._TIMED_OUT, ALL_DOWN})  # noqa: SLF001 - see above
_NOT_IDENTIFIED = frozenset(
    {KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError._SSL}  # noqa: SLF001 - see above
)
_SAME_INSTANCE = (KafkaError.FENCED_INSTANCE_ID, KafkaError.UNRELEASED_INSTANCE_ID)


def passes(error: KafkaError) -> bool:
    """Whether the client goes on by itself after it."""
    return error.code() in _PASSING or error.retriable()


def ends(error: KafkaError, *, joins_group: bool) -> bool:
    """Whether reading cannot go on after it.

    Who joins no group needs no right to one: librdkafka looks for the group that it must be given all the same.
    """
    return joins_group if error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED else not passes(error)


def translated(  # noqa: PLR0911 - a ladder has its rungs
    error: KafkaError, topic: str, group_id: str, properties: Mapping[str, str], reason: LastReason
) -> FatalError | FencedError | RetryableError:
    """The error to raise when a client with these properties, a member of this group, cannot read the topic.

    `reason` is what its `error_cb` has kept. A connection may be made to look at a certificate.
    """
    code = error.code()
    if code in UNKNOWN_TOPIC:
        return FatalError(
            f"{topic}: no such topic; set TREKKPAALEGG_TOPIC_PREFIX to the producer's, "
            "or create it with `trekkpaalegg-producer topics apply`"
        )
    if code == KafkaError.TOPIC_AUTHORIZATION_FAILED:
        return RefusedError(_withheld(f"READ on topic {topic}", properties))
    if code == KafkaError.GROUP_AUTHORIZATION_FAILED:
        elsewhere = ", or set TREKKPAALEGG_CONSUMER_GROUP to a group that it may join"
        return RefusedError(_withheld(f"READ on group {group_id}", properties) + elsewhere)
    # A member that has failed for good says so once, as _FATAL with the cause in its text alone.
    if any(code == each or KafkaError(each).str() in error.str() for each in _SAME_INSTANCE):
        return FencedError("another process runs under the same TREKKPAALEGG_INSTANCE_ID: give each its own")
    told = f"{topic} cannot be read: Kafka says {error.name()}"
    if code in _NOT_IDENTIFIED or reason.is_refusal:
        cause = reason.cause(properties)
        return RefusedError(
            f"{topic} cannot be read: {cause}" if cause else f"{told}; see certificates, user and password"
        )
    if passes(error):
        cause = reason.cause(properties) if code in _SILENT else None
        if cause is not None:
            return RetryableError(f"{topic} cannot be read: Kafka says {error.name()}: {cause}")
        return RetryableError(f"{told}; see whether KAFKA_BROKERS is right and the brokers run")
    return FatalError(f"{told}; see the settings for Kafka")


def _withheld(right: str, properties: Mapping[str, str]) -> str:
    user = properties.get("sasl.username")
    certificate = properties.get("ssl.certificate.location")
    principal = f"User:{user}" if user else "User:…"
    who = principal if user else f"the owner of {certificate}" if certificate else "this client"
    return (
        f"Kafka does not permit {who}: {right}; "
        f"have it granted: `trekkpaalegg-producer acls apply --consumer-principal {principal}`"
    )
