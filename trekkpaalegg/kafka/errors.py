"""Translate Kafka's errors into the project's own, each with what to do about it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from confluent_kafka import KafkaError

from trekkpaalegg.errors import FatalError, FencedError, RefusedError, RetryableError, SettingsError, UnknownTopicError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from trekkpaalegg.errors import TrekkpaaleggError
    from trekkpaalegg.kafka.diagnosis import LastReason

# Codes of librdkafka's own begin with an underscore.
ALL_DOWN = KafkaError._ALL_BROKERS_DOWN  # noqa: SLF001 - see above
END_OF_PARTITION = KafkaError._PARTITION_EOF  # noqa: SLF001 - see above
OUT_OF_RANGE = KafkaError._AUTO_OFFSET_RESET  # noqa: SLF001 - see above
UNKNOWN_TOPIC = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC})  # noqa: SLF001 - see above
_TRANSIENT = frozenset(
    {
        KafkaError._TRANSPORT,  # noqa: SLF001 - see above
        KafkaError._RESOLVE,  # noqa: SLF001 - see above
        KafkaError._TIMED_OUT,  # noqa: SLF001 - see above
        KafkaError._MAX_POLL_EXCEEDED,  # noqa: SLF001 - see above
        KafkaError._DESTROY_BROKER,  # noqa: SLF001 - see above
        KafkaError._UNKNOWN_BROKER,  # noqa: SLF001 - see above
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001 - see above
        KafkaError._NOENT,  # noqa: SLF001 - see above
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.NOT_CONTROLLER,
        KafkaError.NOT_COORDINATOR,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        ALL_DOWN,
    }
)
"""Answers of a broker that is starting, stopping, handing over its work or has lost its disk, and librdkafka's errors
for a broker that is gone.

librdkafka does not mark all of them as retriable wherever they come from. Now and then it calls a partition unknown
that exists (confluentinc/confluent-kafka-python#1043; seen after a request had timed out). It reports `_NOENT`, "No
leaders found", when offsets are listed while it knows no leader of the partitions.
"""
_UNANSWERED = frozenset({KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._DESTROY_BROKER, ALL_DOWN})  # noqa: SLF001 - see above
LOGIN_REFUSED = frozenset(
    {KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError._SSL}  # noqa: SLF001 - see above
)
NOT_AUTHORIZED = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    }
)
_SAME_INSTANCE = (KafkaError.FENCED_INSTANCE_ID, KafkaError.UNRELEASED_INSTANCE_ID)


TOPIC, GROUP, TRANSACTIONAL_ID = "topic", "group", "transactional id"


class Right(NamedTuple):
    """An operation, as `WRITE`, on a resource of that kind and name."""

    operation: str
    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.operation} on {self.kind} {self.name}"


def not_permitted(rights: Iterable[Right], properties: Mapping[str, str], *, role: str = "producer") -> RefusedError:
    """The error for a client with these properties that lacks these rights. `role`: who has them in `acls apply`."""
    user = properties.get("sasl.username")
    certificate = properties.get("ssl.certificate.location")
    principal = f"User:{user}" if user else "User:…"
    who = principal if user else f"the owner of {certificate}" if certificate else "this client"
    named = ", ".join(str(right) for right in dict.fromkeys(rights))
    return RefusedError(
        f"Kafka does not permit {who}: {named}; "
        f"grant it: `trekkpaalegg-producer acls apply --{role}-principal {principal}`"
    )


@contextmanager
def as_retryable() -> Iterator[None]:
    """Turn every `FatalError` and `SettingsError` into a `RetryableError`: for a service that works already.

    What it may do on Kafka was checked when it started. A key that does not fit its certificate is being renewed, and a
    topic that is missing is being restored, or its broker has just started and does not know it yet.
    """
    try:
        yield
    except (FatalError, SettingsError) as error:
        raise RetryableError(str(error)) from error


def is_transient(error: KafkaError) -> bool:
    """Whether the error is temporary: the same call may succeed in a moment, and a client that is reading continues."""
    return error.code() in _TRANSIENT or error.retriable()


def ends_reading(error: KafkaError, *, joins_group: bool) -> bool:
    """Whether a consumer cannot continue after this error.

    A consumer that joins no group needs no right to one: librdkafka looks up the group id that it
    requires all the same, and reports that it may not.
    """
    return joins_group if error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED else not is_transient(error)


def is_instance_conflict(error: KafkaError) -> bool:
    """Whether another member has the same `group.instance.id`.

    A member that has failed for good reports that once, as `_FATAL` with the cause in the text alone.
    """
    return any(error.code() == each or KafkaError(each).str() in error.str() for each in _SAME_INSTANCE)


def translate(
    error: KafkaError,
    what: str,
    properties: Mapping[str, str],
    reason: LastReason,
    *,
    right: Right | None = None,
    role: str = "producer",
) -> TrekkpaaleggError:
    """The error to raise when a client with these properties has failed to do `what`.

    `reason` is what the client's `error_cb` has recorded, `right` what the call needs, and `role` who has that right in
    `acls apply`. May open a connection of its own, to examine a certificate.
    """
    code, name = error.code(), error.name()
    if code in NOT_AUTHORIZED:
        if right is not None:
            return not_permitted([right], properties, role=role)
        return RefusedError(f"{what}: Kafka does not permit it ({name})")
    if code in LOGIN_REFUSED or reason.is_refusal:
        cause = reason.cause(properties) or f"Kafka answered {name}; see certificates, user and password"
        return RefusedError(f"{what}: {cause}")
    if code in _UNANSWERED:
        cause = reason.cause(properties) or f"{name}; see whether KAFKA_BROKERS is right and the brokers run"
        return RetryableError(f"{what}: no Kafka broker answered: {cause}")
    if is_transient(error):
        return RetryableError(f"{what}: Kafka is not ready ({name}); see whether all brokers run")
    return FatalError(f"{what}: Kafka answered {name} ({error.str()}); see the settings for Kafka")


def translate_reading(
    error: KafkaError,
    topic: str,
    properties: Mapping[str, str],
    reason: LastReason,
    *,
    group_id: str | None = None,
    role: str = "consumer",
) -> TrekkpaaleggError:
    """As `translate`, of a consumer that cannot read the topic, as a member of the group if one is given."""
    if error.code() in UNKNOWN_TOPIC:
        return UnknownTopicError(
            f"{topic}: no such topic; set TREKKPAALEGG_TOPIC_PREFIX to the producer's, "
            "or create it with `trekkpaalegg-producer topics apply`"
        )
    if error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED and group_id is not None:
        lacking = not_permitted([Right("READ", GROUP, group_id)], properties, role=role)
        return RefusedError(f"{lacking}, or set TREKKPAALEGG_CONSUMER_GROUP to a group that it may join")
    if is_instance_conflict(error):
        return FencedError("another process runs under the same TREKKPAALEGG_INSTANCE_ID: give each its own")
    return translate(error, f"{topic} cannot be read", properties, reason, right=Right("READ", TOPIC, topic), role=role)
