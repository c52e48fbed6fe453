"""Kafka administration for the producer: topics, their configuration, group members, the recorded number of lanes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import NewTopic, ResourceType  # type: ignore[attr-defined]  # they are not in its __all__

from producer.encode.state import encode_lane_count
from producer.publish.state import LANE_COUNT_KEY, LANE_COUNT_PARTITION, read_lane_count
from producer.publish.topics import Topic
from trekkpaalegg.errors import RetryableError
from trekkpaalegg.kafka.admin import CALL_SECONDS_MAX, Admin
from trekkpaalegg.kafka.clients import DISCARDED, create_producer
from trekkpaalegg.kafka.errors import GROUP, TOPIC, Right, not_permitted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from confluent_kafka.admin import AdminClient

    from trekkpaalegg.errors import RefusedError

_CONFIGS = ("cleanup.policy", "retention.ms", "retention.bytes", "max.message.bytes", "min.insync.replicas")


class KafkaAdmin:
    """One connection for administration. `role` is who has its rights in `acls apply`.

    Every method raises as those of `Admin`.
    """

    def __init__(self, properties: Mapping[str, str], *, role: str = "producer") -> None:
        self._properties = properties
        self._role = role
        self._admin = Admin(properties, role=role)

    def broker_addresses(self) -> list[str]:
        """The brokers of the cluster, as `host:port`."""
        return sorted(f"{broker.host}:{broker.port}" for broker in self._admin.metadata().brokers.values())

    def describe(self, names: Iterable[str], needed: Mapping[str, Sequence[str]] | None = None) -> dict[str, Topic]:
        """Those of the topics that exist, with the configuration in force.

        `needed` are the operations that this client must be permitted on them, by the topic's name; a `RefusedError`
        names every one that it is not.
        """
        described, hidden = self._describe(names)
        lacking = _lacking(described, hidden, needed or {})
        if lacking:
            raise self._not_permitted(lacking)
        partitions = {name: topic.partitions for name, topic in described.items() if topic.partitions}
        configs = self._admin.configs(ResourceType.TOPIC, partitions)
        found, lacking = {}, []
        for name, config in configs.items():
            if config is None:
                lacking.append(Right("DESCRIBE_CONFIGS", TOPIC, name))
                continue
            kept = {each: config[each] for each in _CONFIGS if each in config}
            found[name] = Topic(name, len(partitions[name]), kept, len(partitions[name][0].replicas))
        if lacking:
            raise self._not_permitted(lacking)
        return found

    def lacking(self, needed: Mapping[str, Sequence[str]]) -> list[Right]:
        """Those of the operations on topics, by the topic's name, that this client is not permitted."""
        return _lacking(*self._describe(needed), needed)

    def create(self, topics: Sequence[Topic]) -> None:
        """Create the topics. One that another process has created meanwhile stays as it is."""
        for topic in topics:
            self._create(NewTopic(topic.name, topic.partitions, topic.replication, config=dict(topic.config)))

    def group_members(self, application_id: str, *, but: str | None = None) -> int:
        """How many workers are in the application's group now, but one instance; 0 when there is no such group."""

        def describe(client: AdminClient) -> Any:  # noqa: ANN401  confluent-kafka's answers have no types
            answers = client.describe_consumer_groups([application_id], request_timeout=CALL_SECONDS_MAX)
            return self._admin.result(answers[application_id])

        right, expected = Right("READ", GROUP, application_id), {KafkaError.GROUP_ID_NOT_FOUND}
        try:
            described = self._admin.call("asking for the group", describe, right=right, expected=expected)
        except KafkaException:
            return 0
        return sum(but is None or member.group_instance_id != but for member in described.members)

    def lane_count(self, positions: str) -> int | None:
        """The number of lanes recorded in `positions`, None when there is none."""
        return read_lane_count(self._properties, positions, role=self._role)

    def record_lane_count(self, positions: str, lanes: int) -> None:
        """Record the number of lanes. Call it only when none is recorded."""
        failed: list[KafkaError] = []
        milliseconds = str(int(CALL_SECONDS_MAX * 1000))
        producer = create_producer(
            {**self._properties, "acks": "all", "delivery.timeout.ms": milliseconds}, logger=DISCARDED
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
            if failed and failed[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                raise self._not_permitted([Right("WRITE", TOPIC, positions)])
            raise RetryableError(f"the number of lanes could not be recorded in {positions}: {reason}; try again")

    def _create(self, new: NewTopic) -> None:
        def create(client: AdminClient) -> None:
            self._admin.result(client.create_topics([new], request_timeout=CALL_SECONDS_MAX)[new.topic])

        right, expected = Right("CREATE", TOPIC, new.topic), {KafkaError.TOPIC_ALREADY_EXISTS}
        try:
            self._admin.call(f"creating {new.topic}", create, right=right, expected=expected)
        except KafkaException:
            return

    def _describe(self, names: Iterable[str]) -> tuple[dict[str, Any], set[str]]:
        """Those of the topics that exist, and the names of those that this client may not see."""
        self._admin.metadata()  # in short calls, as what follows is one long one when nobody answers
        names = list(names)
        found: dict[str, Any] = {}
        hidden: set[str] = set()

        def describe(client: AdminClient) -> None:
            answers = client.describe_topics(
                TopicCollection(names), include_authorized_operations=True, request_timeout=CALL_SECONDS_MAX
            )
            for name, answer in answers.items():
                try:
                    found[name] = self._admin.result(answer)
                except KafkaException as error:
                    code = error.args[0].code()
                    if code == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                        hidden.add(name)
                    elif code != KafkaError.UNKNOWN_TOPIC_OR_PART:
                        raise

        self._admin.call("asking for the topics", describe)
        return found, hidden

    def _not_permitted(self, rights: Iterable[Right]) -> RefusedError:
        return not_permitted(rights, self._properties, role=self._role)


def _lacking(found: Mapping[str, Any], hidden: set[str], needed: Mapping[str, Sequence[str]]) -> list[Right]:
    """The missing rights; of a topic that is hidden from us all that are needed, and none where nothing is known."""
    lacking = [Right(operation, TOPIC, name) for name in hidden for operation in needed.get(name, ("DESCRIBE",))]
    for name, topic in found.items():
        allowed = {operation.name for operation in topic.authorized_operations or ()}
        if allowed:
            lacking += [Right(each, TOPIC, name) for each in needed.get(name, ()) if each not in allowed]
    return lacking
