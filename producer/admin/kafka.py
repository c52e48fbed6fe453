"""Kafka's administration: topics and their configuration, group membership, the recorded number of lanes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import ConfigResource, NewTopic, ResourceType  # type: ignore[attr-defined]  # they are not in its __all__

from producer.encode.state import encode_lane_count
from producer.publish.state import LANE_COUNT_KEY, LANE_COUNT_PARTITION, read_lane_count
from producer.publish.topics import Topic
from trekkpaalegg.errors import FatalError, RefusedError, RetryableError
from trekkpaalegg.kafka.clients import DISCARDED, create_admin_client, create_producer
from trekkpaalegg.kafka.diagnosis import LastReason
from trekkpaalegg.kafka.rights import GROUP, TOPIC, Right, not_permitted
from trekkpaalegg.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

CALL_SECONDS_MAX = 10.0
REFUSED_SECONDS_MAX = 2.0  # until then another broker than the one that refuses us may let us in
_PAUSE_SECONDS = 0.2
_SLICE_SECONDS = 1.0
"""A call into librdkafka holds back signals, so one that may wait long is made of short ones."""
_CONFIGS = ("cleanup.policy", "retention.ms", "retention.bytes", "max.message.bytes", "min.insync.replicas")
_PASSING = frozenset(
    {
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_CONTROLLER,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError.REPLICA_NOT_AVAILABLE,
    }
)
"""What a broker that is starting or moving its work answers; librdkafka does not mark these as retriable here."""
# librdkafka's local codes begin with an underscore.
_SILENT = frozenset(
    {
        KafkaError._TRANSPORT,  # noqa: SLF001  see above
        KafkaError._TIMED_OUT,  # noqa: SLF001  see above
        KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001  see above
        KafkaError._DESTROY_BROKER,  # noqa: SLF001  see above; a broker that is gone from the cluster
        KafkaError._SSL,  # noqa: SLF001  see above
        KafkaError._AUTHENTICATION,  # noqa: SLF001  see above
    }
)
_AUTHORIZATION = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    }
)


class KafkaAdmin:
    """One connection for administration.

    Every method raises `RetryableError`, with the reason, when Kafka does not answer in time, `RefusedError` when
    a right is missing, `FatalError` when it refuses otherwise, and `SettingsError` when librdkafka does not take a
    property. `role` is whose rights these are in `acls apply`.
    """

    def __init__(self, properties: Mapping[str, str], *, role: str = "producer") -> None:
        self._properties: dict[str, Any] = dict(properties)
        self._role = role
        self._reason = LastReason()
        self._client = create_admin_client(self._properties, self._reason)

    def broker_addresses(self) -> list[str]:
        """The brokers of the cluster, as `host:port`."""
        metadata = self._metadata()
        return sorted(f"{broker.host}:{broker.port}" for broker in metadata.brokers.values())

    def describe(self, names: Iterable[str], needed: Mapping[str, Sequence[str]] | None = None) -> dict[str, Topic]:
        """Those of the topics that exist, with the configuration in force.

        `needed` are the operations that we are to do on them, by the topic's name; those that we may not do are named
        in the `RefusedError`.
        """
        found, hidden = self._described(names)
        lacking = _lacking(found, hidden, needed or {})
        if lacking:
            raise self._not_permitted(lacking)
        there = {name: topic.partitions for name, topic in found.items() if topic.partitions}
        configs = self._configs(there)
        return {
            name: Topic(name, len(partitions), configs[name], len(partitions[0].replicas))
            for name, partitions in there.items()
        }

    def lacking(self, needed: Mapping[str, Sequence[str]]) -> list[Right]:
        """Those of the operations on topics, by the topic's name, that this client may not do."""
        return _lacking(*self._described(needed), needed)

    def create(self, topics: Sequence[Topic]) -> None:
        """Create the topics; one that another has created meanwhile is let be."""
        for topic in topics:
            new = NewTopic(topic.name, topic.partitions, topic.replication, config=dict(topic.config))
            try:
                self._create(new)
            except _AlreadyThereError:
                continue

    def group_members(self, application_id: str, *, but: str | None = None) -> int:
        """How many workers are in the application's group now, but one instance; 0 when there is no such group."""

        def describe() -> Any:  # noqa: ANN401  confluent-kafka's answers are of no type
            return self._client.describe_consumer_groups([application_id], request_timeout=CALL_SECONDS_MAX)[
                application_id
            ].result()

        try:
            described = self._answered("asking for the group", describe, Right("READ", GROUP, application_id))
        except _NotThereError:
            return 0
        return sum(but is None or member.group_instance_id != but for member in described.members)

    def lane_count(self, positions: str) -> int | None:
        """The number of lanes recorded in `positions`, None when there is none."""
        try:
            return read_lane_count(self._properties, positions)
        except RefusedError as error:
            raise self._not_permitted([Right("READ", TOPIC, positions)]) from error

    def record_lane_count(self, positions: str, lanes: int) -> None:
        """Record the number of lanes. Call it only when none is recorded."""
        failed: list[KafkaError] = []
        properties = {**self._properties, "acks": "all", "delivery.timeout.ms": str(int(CALL_SECONDS_MAX * 1000))}
        producer = create_producer(properties, self._reason, logger=DISCARDED)
        producer.produce(
            positions,
            encode_lane_count(lanes),
            LANE_COUNT_KEY,
            LANE_COUNT_PARTITION,
            on_delivery=lambda error, _message: failed.append(error) if error else None,
        )
        if producer.flush(CALL_SECONDS_MAX + 1) or failed:
            reason = failed[0].name() if failed else "no answer"
            if failed and failed[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                raise self._not_permitted([Right("WRITE", TOPIC, positions)])
            raise RetryableError(f"the number of lanes could not be recorded in {positions}: {reason}; try again")

    def _create(self, new: NewTopic) -> None:
        def create() -> None:
            self._client.create_topics([new], request_timeout=CALL_SECONDS_MAX)[new.topic].result()

        self._answered(f"creating {new.topic}", create, Right("CREATE", TOPIC, new.topic))

    def _metadata(self) -> Any:  # noqa: ANN401  as above
        return self._answered("asking for the topics", lambda: self._client.list_topics(timeout=_SLICE_SECONDS))

    def _described(self, names: Iterable[str]) -> tuple[dict[str, Any], set[str]]:
        """Those of the topics that exist, and the names of those that we may not see."""
        self._metadata()  # in short calls, as what follows is one long one when nobody answers
        found, hidden = {}, set()
        for name in names:
            try:
                found[name] = self._describe(name)
            except _NotThereError:
                continue
            except RefusedError:
                hidden.add(name)
        return found, hidden

    def _describe(self, name: str) -> Any:  # noqa: ANN401  as above
        def describe() -> Any:  # noqa: ANN401  as above
            asked = TopicCollection([name])
            return self._client.describe_topics(
                asked, include_authorized_operations=True, request_timeout=CALL_SECONDS_MAX
            )[name].result()

        return self._answered(f"asking for {name}", describe, Right("DESCRIBE", TOPIC, name))

    def _configs(self, names: Iterable[str]) -> dict[str, dict[str, str]]:
        found, hidden = {}, []
        for name in names:
            try:
                found[name] = self._config(name)
            except RefusedError:
                hidden.append(Right("DESCRIBE_CONFIGS", TOPIC, name))
        if hidden:
            raise self._not_permitted(hidden)
        return found

    def _config(self, name: str) -> dict[str, str]:
        resource = ConfigResource(ResourceType.TOPIC, name)

        def describe() -> Any:  # noqa: ANN401  as above
            return self._client.describe_configs([resource], request_timeout=CALL_SECONDS_MAX)[resource].result()

        right = Right("DESCRIBE_CONFIGS", TOPIC, name)
        entries = self._answered(f"asking for the configuration of {name}", describe, right)
        return {config: str(entries[config].value) for config in _CONFIGS if config in entries}

    def _answered(self, what: str, call: Callable[[], Any], right: Right | None = None) -> Any:  # noqa: ANN401  as above
        """As `_answered`, with the reason why nobody answers, and the right that was missing."""
        try:
            return _answered(what, call, self._is_refused)
        except _UnansweredError as error:
            cause = self._reason.cause(self._properties)
            if cause is None:
                raise
            raise RetryableError(f"{what}: no Kafka broker answered: {cause}") from error
        except _WithheldError as error:
            if right is None:
                raise
            raise self._not_permitted([right]) from error

    def _is_refused(self) -> bool:
        """Whether certificate or password are refused, so that to wait is of no use."""
        self._client.poll(0)  # librdkafka tells its reasons within
        return self._reason.is_refusal

    def _not_permitted(self, rights: Iterable[Right]) -> RefusedError:
        return not_permitted(rights, self._properties, role=self._role)


def _lacking(found: Mapping[str, Any], hidden: set[str], needed: Mapping[str, Sequence[str]]) -> list[Right]:
    """The rights that are missing; of a topic that we may not even see, all that are needed, and none where unknown."""
    lacking = [Right(operation, TOPIC, name) for name in hidden for operation in needed.get(name, ("DESCRIBE",))]
    for name, topic in found.items():
        allowed = {operation.name for operation in topic.authorized_operations or ()}
        if allowed:
            lacking += [Right(each, TOPIC, name) for each in needed.get(name, ()) if each not in allowed]
    return lacking


class _AlreadyThereError(FatalError):
    """What was to be created exists."""


class _NotThereError(FatalError):
    """What was asked for does not exist."""


class _WithheldError(FatalError):
    """We have no right to it."""


class _PassingError(RetryableError):
    """No answer yet, or one of a broker that is starting or handing over: it may answer in a moment."""


class _UnansweredError(_PassingError):
    """No answer at all."""


def _answered(what: str, call: Callable[[], Any], is_refused: Callable[[], bool]) -> Any:  # noqa: ANN401  as above
    """What `call` answers, asked again for a while as long as the broker says that it is not ready."""
    return Retry(
        seconds_max=lambda: REFUSED_SECONDS_MAX if is_refused() else CALL_SECONDS_MAX,
        first_pause_seconds_max=_PAUSE_SECONDS,
        pause_seconds_max=_PAUSE_SECONDS,
    )(_translated, what, call)


def _translated(what: str, call: Callable[[], Any]) -> Any:  # noqa: ANN401  as above
    try:
        return call()
    except KafkaException as error:
        raise _error(what, error.args[0]) from error


def _error(what: str, failed: KafkaError) -> Exception:
    code, name = failed.code(), failed.name()
    if code == KafkaError.TOPIC_ALREADY_EXISTS:
        return _AlreadyThereError(f"{what}: it exists already")
    if code in {KafkaError.GROUP_ID_NOT_FOUND, KafkaError.UNKNOWN_TOPIC_OR_PART}:
        return _NotThereError(f"{what}: there is none")
    if code in _AUTHORIZATION:
        return _WithheldError(f"{what}: Kafka does not permit it ({name})")
    if code in _PASSING:
        return _PassingError(f"{what}: the broker is not ready ({name}); try again")
    if code in _SILENT or failed.retriable():
        return _UnansweredError(f"{what}: no Kafka broker answered ({name}); look at KAFKA_BROKERS and the network")
    return FatalError(f"{what}: Kafka refused ({name}: {failed.str()})")
