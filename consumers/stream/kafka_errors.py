"""An error of Kafka's in, the consumers' own error that says what to do out. Pure."""

from __future__ import annotations

from confluent_kafka import KafkaError

from consumers.errors import FatalError, FencedError, RetryableError

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

librdkafka does not mark all of them as retriable wherever they come from.
"""
_NOT_IDENTIFIED = frozenset(
    {KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError._SSL}  # noqa: SLF001 - see above
)
_SAME_INSTANCE = (KafkaError.FENCED_INSTANCE_ID, KafkaError.UNRELEASED_INSTANCE_ID)


def passes(error: KafkaError) -> bool:
    """Whether the client goes on by itself after it."""
    return error.code() in _PASSING or error.retriable()


def refuses(error: KafkaError) -> bool:
    """Whether nothing will ever come after it."""
    return error.fatal() or error.code() in _NOT_IDENTIFIED - {KafkaError._SSL}  # noqa: SLF001 - a TLS error may pass


def translated(error: KafkaError, topic: str, group_id: str) -> FatalError | FencedError | RetryableError:
    """The error to raise when a member of this group cannot read the topic."""
    code = error.code()
    if code in UNKNOWN_TOPIC:
        return FatalError(
            f"{topic}: no such topic; set TREKKPAALEGG_TOPIC_PREFIX to the producer's, "
            "or create it with `trekkpaalegg-producer topics apply`"
        )
    not_allowed = {
        KafkaError.TOPIC_AUTHORIZATION_FAILED: f"{topic}: Kafka does not let this client read it; ask for an ACL",
        KafkaError.GROUP_AUTHORIZATION_FAILED: (
            f"Kafka does not let this client join the group {group_id}; ask for an ACL, "
            "or set TREKKPAALEGG_CONSUMER_GROUP to a group that it may join"
        ),
    }
    if code in not_allowed:
        return FatalError(not_allowed[code])
    # A member that has failed for good says so once, as _FATAL with the cause in its text alone.
    if any(code == each or KafkaError(each).str() in error.str() for each in _SAME_INSTANCE):
        return FencedError("another process runs under the same TREKKPAALEGG_INSTANCE_ID: give each its own")
    reason = f"{topic} cannot be read: Kafka says {error.name()}"
    if passes(error):
        return RetryableError(f"{reason}; see whether KAFKA_BROKERS is right and the brokers run")
    if code in _NOT_IDENTIFIED:
        return FatalError(f"{reason}; see certificates, user and password in the settings for Kafka")
    return FatalError(f"{reason}; see the settings for Kafka")
