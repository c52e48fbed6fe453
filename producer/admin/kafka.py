"""Kafka administration for the producer: topics, their configuration, group members, and whose topics they are."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import NewTopic, ResourceType  # type: ignore[attr-defined]  # they are not in its __all__

from producer.domain.state import ObservationOffsets
from producer.encode.state import STATE_SCHEMAS
from producer.publish.kafka import INIT_CALL_SECONDS, INIT_TIMEOUT_SECONDS, TRANSACTION_TIMEOUT_SECONDS
from producer.publish.recovery.recover import transact
from producer.publish.state import (
    has_identity,
    identity_record,
    observation_offsets_record,
    read_identity,
    read_schemas,
    schema_records,
)
from producer.publish.topics import FoundTopics, Topic, Topics, present_identity
from trekkpaalegg.errors import RetryableError
from trekkpaalegg.incoming import Partition
from trekkpaalegg.kafka.admin import CALL_SECONDS_MAX, Admin
from trekkpaalegg.kafka.clients import DISCARDED, create_producer
from trekkpaalegg.kafka.diagnosis import LastReason
from trekkpaalegg.kafka.errors import GROUP, TOPIC, TRANSACTIONAL_ID, Right, not_permitted, translate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from confluent_kafka import Producer
    from confluent_kafka.admin import AdminClient

    from producer.domain.identity import Identity
    from trekkpaalegg.errors import RefusedError

_VISIBLE_SECONDS_MAX = 20.0
_PAUSE_SECONDS = 0.1
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
        described, hidden = self._admin.describe(names)
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
            replicas, topic_id = len(partitions[name][0].replicas), str(described[name].topic_id)
            found[name] = Topic(name, len(partitions[name]), kept, replicas, topic_id)
        if lacking:
            raise self._not_permitted(lacking)
        return found

    def lacking(self, needed: Mapping[str, Sequence[str]]) -> list[Right]:
        """Those of the operations on topics, by the topic's name, that this client is not permitted."""
        return _lacking(*self._admin.describe(needed), needed)

    def create(self, topics: Sequence[Topic]) -> None:
        """Create the topics; returns once the cluster shows them, which may be a moment later.

        One that another process has created meanwhile stays as it is.
        """
        for topic in topics:
            self._create(NewTopic(topic.name, topic.partitions, topic.replication, config=dict(topic.config)))
        deadline = time.monotonic() + _VISIBLE_SECONDS_MAX
        names = [topic.name for topic in topics]
        while hidden := set(names) - self._admin.describe(names)[0].keys():
            if time.monotonic() > deadline:
                raise RetryableError(f"{', '.join(hidden)}: created, but the cluster does not show it yet; try again")
            time.sleep(_PAUSE_SECONDS)

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

    def inspect(
        self,
        prefix: str,
        application_id: str,
        needed: Mapping[str, Sequence[str]] | None = None,
        *,
        in_full: bool = True,
    ) -> FoundTopics:
        """The topics that begin with `prefix`, and whose they are; `needed` as of `describe`.

        If not `in_full`, an adoption after the one that is expected is left for the lanes to find: the whole partition
        may be large. Raises `FatalError` also for a state of the former layout.
        """
        found, positions = self.present(prefix, application_id, needed), Topics.of(prefix).positions
        recorded = None
        if positions in found.topics:
            expected = None if in_full else found.present
            recorded = read_identity(self._properties, positions, expected=expected, role=self._role)
        lanes = _partitions(found.topics, positions)[: 0 if recorded is None else recorded.lanes]
        history = _partitions(found.topics, *_history(prefix))
        unrecorded = self._unrecorded(self._admin.ends(lanes), history)
        return msgspec.structs.replace(found, recorded=recorded, unrecorded=unrecorded)

    def present(
        self, prefix: str, application_id: str, needed: Mapping[str, Sequence[str]] | None = None
    ) -> FoundTopics:
        """As `inspect`, but without what is recorded."""
        names = Topics.of(prefix)
        found = self.describe(names, needed)
        present = present_identity(application_id, self._admin.metadata().cluster_id, prefix, found)
        has_history = any(self._admin.ends(_partitions(found, *_history(prefix))).values())
        return FoundTopics(found, present, has_history=has_history)

    def has_records(self, topic: str) -> bool:
        """Whether anything was ever committed to the topic."""
        return any(self._admin.ends(self._admin.partitions(topic)).values())

    def recorded(self, positions: str, lane: int) -> Identity | None:
        """The identity recorded in a lane's partition of `positions`, None if there is none.

        Raises `FatalError` also for a state of the former layout.
        """
        return read_identity(self._properties, positions, lane, role=self._role)

    def record_identity(self, positions: str, identity: Identity) -> None:
        """Record the identity in every partition, the first one last. Call it only where there is no state yet."""
        failed: list[KafkaError] = []
        milliseconds = str(int(CALL_SECONDS_MAX * 1000))
        producer = create_producer(
            {**self._properties, "acks": "all", "delivery.timeout.ms": milliseconds}, logger=DISCARDED
        )
        for lanes in (range(1, identity.lanes), range(1)):
            for lane in lanes:
                for record in (*schema_records(positions, lane, ()), identity_record(positions, lane, identity)):
                    producer.produce(
                        positions,
                        record.value,
                        record.key,
                        lane,
                        on_delivery=lambda error, _message: failed.append(error) if error else None,
                    )
            if producer.flush(CALL_SECONDS_MAX + 1) or failed:
                reason = failed[0].name() if failed else "no answer"
                if failed and failed[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                    raise self._not_permitted([Right("WRITE", TOPIC, positions)])
                raise RetryableError(f"{positions}: whose topics these are was not recorded: {reason}; try again")

    def adopt(self, prefix: str, identity: Identity, former: Mapping[int, Identity], now: int) -> None:
        """Record the identity in each of these lanes in place of its former one, in the first lane last.

        1. Fence the lane of both applications. 2. Record it in a transaction of the former application's lane, so that
        whoever acquires that afterwards finds it. Where topics were moved or made again, what was handed over may be
        lost: the lane begins with those observations that there are, and lists that were not handed over completely
        since `now` (microseconds since 1970) are due for that.

        Raises as `transact` when that is not known to be done in every lane; doing it again does no harm.
        """
        names = Topics.of(prefix)
        rows = (names.observations_urgent, names.observations)
        begins = self._admin.begins([Partition(row, lane) for row in rows for lane in former])
        for lane, before in sorted(former.items(), reverse=True):
            if before.application_id != identity.application_id:
                self.fence(f"{identity.application_id}-{lane}")
            owner = self.fence(f"{before.application_id}-{lane}")
            recorded = read_schemas(self._properties, names.positions, lane, role=self._role)
            records = schema_records(names.positions, lane, recorded)
            records.append(identity_record(names.positions, lane, identity))
            if (before.cluster_id, before.topics) != (identity.cluster_id, identity.topics):
                offsets = ObservationOffsets(*(begins[Partition(row, lane)] for row in rows))
                records.append(observation_offsets_record(names.positions, lane, offsets, now))
            transact(owner, lane, records)

    def _unrecorded(self, ends: Mapping[Partition, int], history: Iterable[Partition]) -> tuple[int, ...]:
        """The lanes in whose partition, with these ends, no identity is recorded, or nothing else beside a history.

        It is a partition's first record but for the schemas, so that only those are read that have lost their beginning
        or have little more.
        """
        begins = self._admin.begins(ends)
        nothing_else = len(STATE_SCHEMAS) + 1
        bare = {each.partition for each, end in ends.items() if end <= nothing_else}
        published = {
            each.partition
            for each, end in self._admin.ends([each for each in history if each.partition in bare]).items()
            if end
        }

        def is_recorded(place: Partition, end: int) -> bool:
            is_sure = begins[place] == 0 and end > len(STATE_SCHEMAS)
            return end > 0 and (is_sure or has_identity(self._properties, *place, role=self._role))

        return tuple(
            place.partition
            for place, end in ends.items()
            if place.partition in published or not is_recorded(place, end)
        )

    def fence(self, transactional_id: str, transaction_seconds_max: int = TRANSACTION_TIMEOUT_SECONDS) -> Producer:
        """A producer of this id, by which all former ones are fenced. Kafka aborts a transaction that takes longer."""
        reason = LastReason()
        own = {"transactional.id": transactional_id, "transaction.timeout.ms": str(transaction_seconds_max * 1000)}
        producer = create_producer({**self._properties, **own}, reason, logger=DISCARDED)
        deadline = time.monotonic() + INIT_TIMEOUT_SECONDS
        while True:
            try:
                producer.init_transactions(INIT_CALL_SECONDS)
            except KafkaException as error:
                failed = error.args[0]
                if failed.retriable() and not reason.is_refusal and time.monotonic() < deadline:
                    continue
                right = Right("WRITE", TRANSACTIONAL_ID, transactional_id)
                what = f"fencing {transactional_id}"
                raise translate(failed, what, self._properties, reason, right=right, role=self._role) from error
            return producer

    def _create(self, new: NewTopic) -> None:
        def create(client: AdminClient) -> None:
            self._admin.result(client.create_topics([new], request_timeout=CALL_SECONDS_MAX)[new.topic])

        right, expected = Right("CREATE", TOPIC, new.topic), {KafkaError.TOPIC_ALREADY_EXISTS}
        try:
            self._admin.call(f"creating {new.topic}", create, right=right, expected=expected)
        except KafkaException:
            return

    def _not_permitted(self, rights: Iterable[Right]) -> RefusedError:
        return not_permitted(rights, self._properties, role=self._role)


def _history(prefix: str) -> tuple[str, str]:
    """The topics that show that something was published."""
    names = Topics.of(prefix)
    return names.versjoner, names.gjeldende


def _partitions(found: Mapping[str, Topic], *names: str) -> list[Partition]:
    return [Partition(name, number) for name in names if name in found for number in range(found[name].partitions)]


def _lacking(found: Mapping[str, Any], hidden: set[str], needed: Mapping[str, Sequence[str]]) -> list[Right]:
    """The missing rights; of a topic that is hidden from us all that are needed, and none where nothing is known."""
    lacking = [Right(operation, TOPIC, name) for name in hidden for operation in needed.get(name, ("DESCRIBE",))]
    for name, topic in found.items():
        allowed = {operation.name for operation in topic.authorized_operations or ()}
        if allowed:
            lacking += [Right(each, TOPIC, name) for each in needed.get(name, ()) if each not in allowed]
    return lacking
