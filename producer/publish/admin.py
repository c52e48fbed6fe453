"""Kafka's administration: topics and their configuration, group membership, the recorded number of lanes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType  # type: ignore[attr-defined]  # they are not in its __all__

from producer.encode.state import encode_lane_count
from producer.errors import FatalError, RetryableError, SettingsError
from producer.publish.state_log import LANE_COUNT_KEY, LANE_COUNT_PARTITION, read_lane_count
from producer.publish.topics import Topic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

CALL_SECONDS_MAX = 15.0
_CONFIGS = ("cleanup.policy", "retention.ms", "retention.bytes", "max.message.bytes", "min.insync.replicas")


class KafkaAdmin:
    """One connection for administration. Every method raises `RetryableError` when Kafka does not answer in time.

    Raises `FatalError` when it refuses, `SettingsError` when librdkafka does not know a property given.
    """

    def __init__(self, properties: Mapping[str, str]) -> None:
        self._properties: dict[str, Any] = dict(properties)
        self._client = _translated("connecting", lambda: AdminClient(self._properties, logger=None))

    def broker_addresses(self) -> list[str]:
        """The brokers of the cluster, as `host:port`."""
        metadata = self._do("asking for the brokers", lambda: self._client.list_topics(timeout=CALL_SECONDS_MAX))
        return sorted(f"{broker.host}:{broker.port}" for broker in metadata.brokers.values())

    def describe(self, names: Iterable[str]) -> dict[str, Topic]:
        """Those of the topics that exist, with the configuration in force."""
        wanted = set(names)
        metadata = self._do("asking for the topics", lambda: self._client.list_topics(timeout=CALL_SECONDS_MAX))
        there = {name: topic for name, topic in metadata.topics.items() if name in wanted and topic.error is None}
        configs = self._configs(there)
        return {
            name: Topic(name, len(topic.partitions), configs[name], len(next(iter(topic.partitions.values())).replicas))
            for name, topic in there.items()
        }

    def create(self, topics: Sequence[Topic]) -> None:
        """Create the topics; one that another has created meanwhile is let be."""
        new = [NewTopic(topic.name, topic.partitions, topic.replication, config=dict(topic.config)) for topic in topics]
        if not new:
            return
        for name, future in self._do("creating topics", lambda: self._client.create_topics(new)).items():
            try:
                self._do(f"creating {name}", future.result)
            except _AlreadyThereError:
                continue

    def group_members(self, application_id: str) -> int:
        """How many workers are in the application's group now; 0 when there is no such group."""
        futures = self._do(
            "asking for the group",
            lambda: self._client.describe_consumer_groups([application_id], request_timeout=CALL_SECONDS_MAX),
        )
        try:
            return len(self._do("asking for the group", futures[application_id].result).members)
        except _NotThereError:
            return 0

    def lane_count(self, positions: str) -> int | None:
        """The number of lanes recorded in `positions`, None when there is none."""
        return read_lane_count(self._properties, positions)

    def record_lane_count(self, positions: str, lanes: int) -> None:
        """Record the number of lanes. Call it only when none is recorded."""
        failed: list[KafkaError] = []
        producer = _translated(
            "connecting",
            lambda: Producer(
                {**self._properties, "acks": "all", "delivery.timeout.ms": str(int(CALL_SECONDS_MAX * 1000))}
            ),
        )
        producer.produce(
            positions,
            encode_lane_count(lanes),
            LANE_COUNT_KEY,
            LANE_COUNT_PARTITION,
            on_delivery=lambda error, _message: failed.append(error) if error else None,
        )
        if producer.flush(CALL_SECONDS_MAX + 1) or failed:
            reason = failed[0].name() if failed else "no answer"
            raise RetryableError(f"the number of lanes could not be recorded in {positions}: {reason}; try again")

    def _configs(self, names: Iterable[str]) -> dict[str, dict[str, str]]:
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        if not resources:
            return {}
        found = {}
        answers = self._do("asking for topic configuration", lambda: self._client.describe_configs(resources))
        for resource, future in answers.items():
            entries = self._do(f"asking for the configuration of {resource.name}", future.result)
            found[resource.name] = {name: str(entries[name].value) for name in _CONFIGS if name in entries}
        return found

    def _do(self, what: str, call: Callable[[], Any]) -> Any:  # noqa: ANN401  confluent-kafka's answers are of no type
        return _translated(what, call)


class _AlreadyThereError(FatalError):
    """What was to be created exists."""


class _NotThereError(FatalError):
    """What was asked for does not exist."""


def _translated(what: str, call: Callable[[], Any]) -> Any:  # noqa: ANN401  as above
    try:
        return call()
    except KafkaException as error:
        failed = error.args[0]
        raise _error(what, failed) from error


def _error(what: str, failed: KafkaError) -> Exception:
    code, name = failed.code(), failed.name()
    if code == KafkaError.TOPIC_ALREADY_EXISTS:
        return _AlreadyThereError(f"{what}: it exists already")
    if code == KafkaError.GROUP_ID_NOT_FOUND:
        return _NotThereError(f"{what}: there is none")
    if code in {KafkaError._INVALID_ARG, KafkaError._UNKNOWN_PROTOCOL}:  # noqa: SLF001  librdkafka's local codes begin so
        return SettingsError([f"Kafka properties: {failed.str()}"])
    if code in {KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN} or failed.retriable():  # noqa: SLF001  as above
        return RetryableError(f"{what}: no Kafka broker answered ({name}); look at KAFKA_BROKERS and the network")
    return FatalError(f"{what}: Kafka refused ({name}); look at the rights of this client")
