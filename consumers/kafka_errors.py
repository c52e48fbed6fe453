"""An error of Kafka's in, the consumers' own error that says what to do out. Pure."""

from __future__ import annotations

from confluent_kafka import KafkaError

from consumers.errors import FatalError, RetryableError

# Codes of librdkafka's own begin with an underscore.
ALL_DOWN = KafkaError._ALL_BROKERS_DOWN  # noqa: SLF001 - see above
UNKNOWN_TOPIC = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC})  # noqa: SLF001 - see above
_PASSING = frozenset(
    {
        KafkaError._TRANSPORT,  # noqa: SLF001 - see above
        KafkaError._RESOLVE,  # noqa: SLF001 - see above
        KafkaError._TIMED_OUT,  # noqa: SLF001 - see above
        KafkaError._MAX_POLL_EXCEEDED,  # noqa: SLF001 - see above
        ALL_DOWN,
    }
)
_NOT_IDENTIFIED = frozenset(
    {KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError._SSL}  # noqa: SLF001 - see above
)


def passes(error: KafkaError) -> bool:
    """Whether the client goes on by itself after it."""
    return error.code() in _PASSING or error.retriable()


def refuses(error: KafkaError) -> bool:
    """Whether nothing will ever come after it."""
    return error.fatal() or error.code() in _NOT_IDENTIFIED - {KafkaError._SSL}  # noqa: SLF001 - a TLS error may pass


def translated(error: KafkaError, topic: str, group_id: str) -> FatalError | RetryableError:
    """The error to raise when a member of this group cannot read the topic."""
    code = error.code()
    if code in UNKNOWN_TOPIC:
        return FatalError(
            f"{topic}: no such topic; set TREKKPAALEGG_TOPIC_PREFIX to the producer's, "
            "or create it with `trekkpaalegg-producer topics apply`"
        )
    if code == KafkaError.TOPIC_AUTHORIZATION_FAILED:
        return FatalError(f"{topic}: Kafka does not let this client read it; ask for an ACL")
    if code == KafkaError.GROUP_AUTHORIZATION_FAILED:
        return FatalError(
            f"Kafka does not let this client join the group {group_id}; ask for an ACL, "
            "or set TREKKPAALEGG_CONSUMER_GROUP to a group that it may join"
        )
    reason = f"{topic} cannot be read: Kafka says {error.name()}"
    if passes(error):
        return RetryableError(f"{reason}; see whether KAFKA_BROKERS is right and the brokers run")
    if code in _NOT_IDENTIFIED:
        return FatalError(f"{reason}; see certificates, user and password in the settings for Kafka")
    return FatalError(f"{reason}; see the settings for Kafka")
