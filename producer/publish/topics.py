"""The topics as they should be configured, and how the topics of a cluster differ from that. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from producer.domain.identity import Identity, TopicIdentity

if TYPE_CHECKING:
    from collections.abc import Iterable

FOR_EVER = -1
DAY_MS = 86_400_000
PARTITIONS_DEFAULT = 6
REPLICATION_OF_THE_BROKER = -1
REPLICATION_WANTED = 3
IN_SYNC_WANTED = 2
_RAW_HASH = re.compile(rb"#([0-9a-f]{32})")
_QUARANTINE_DAYS = 90
_SIGNALS_DAYS = 1

_MURMUR2_SEED = 0x9747B28C
_MURMUR2_M = 0x5BD1E995
_MASK = 0xFFFFFFFF
_POSITIVE = 0x7FFFFFFF
_WORD_BYTES = 4


class Topics(NamedTuple):
    """The names of the topics."""

    versjoner: str
    gjeldende: str
    quarantine: str
    positions: str
    signals: str
    observations: str
    observations_urgent: str

    @classmethod
    def of(cls, prefix: str) -> Topics:
        """The names that begin with `prefix`."""
        return cls(*(f"{prefix}-{role.replace('_', '-')}" for role in cls._fields))

    @property
    def subjects(self) -> dict[str, str]:
        """The registry's subjects, and the name of the schema of each."""
        return {
            f"{self.versjoner}-value": "trekkpaalegg_versjon",
            f"{self.gjeldende}-value": "trekkpaalegg_versjon",
            f"{self.quarantine}-value": "trekkpaalegg_rejected",
        }


def murmur2(data: bytes) -> int:
    """32 bits of MurmurHash2 with Kafka's seed (org.apache.kafka.common.utils.Utils.murmur2), unsigned."""
    length = len(data)
    h = _MURMUR2_SEED ^ length
    whole = length - length % _WORD_BYTES
    for start in range(0, whole, _WORD_BYTES):
        k = int.from_bytes(data[start : start + _WORD_BYTES], "little") * _MURMUR2_M & _MASK
        k = (k ^ (k >> 24)) * _MURMUR2_M & _MASK
        h = (h * _MURMUR2_M & _MASK) ^ k
    if whole < length:
        h = (h ^ int.from_bytes(data[whole:], "little")) * _MURMUR2_M & _MASK
    h = (h ^ (h >> 13)) * _MURMUR2_M & _MASK
    return h ^ (h >> 15)


def lane_of(trekkpliktig: str, lanes: int) -> int:
    """The lane that reads this trekkpliktig's list: the partition to which its key goes."""
    return _partition_of(trekkpliktig.encode(), lanes)


def home_of(key: bytes, lanes: int) -> int:
    """The lane in which the order with this key of `order_key` is at home: the partition of its events.

    That of its quarantined elements if its trekkid is unknown.
    """
    without_trekkid = _RAW_HASH.fullmatch(key)
    return _partition_of(key if without_trekkid is None else without_trekkid[1], lanes)


def _partition_of(key: bytes, partitions: int) -> int:
    return (murmur2(key) & _POSITIVE) % partitions


class Topic(msgspec.Struct, frozen=True):
    """A topic as wanted or as found. `config` holds the effective values, as Kafka formats them.

    `id` is Kafka's own, new whenever the topic is made again; empty for one that is only wanted.
    """

    name: str
    partitions: int
    config: dict[str, str]
    replication: int = REPLICATION_OF_THE_BROKER
    id: str = ""


class TopicDifference(msgspec.Struct, frozen=True):
    """A property of a topic that differs from what is wanted. `found` is None if it is missing."""

    topic: str
    what: str
    wanted: str
    found: str | None


def wanted_topics(
    prefix: str,
    *,
    partitions: int = PARTITIONS_DEFAULT,
    replication: int = REPLICATION_OF_THE_BROKER,
    history_retention_ms: int = FOR_EVER,
) -> tuple[Topic, ...]:
    """The topics, `partitions` each: that is the number of lanes.

    `history_retention_ms` is how long `…-versjoner` keeps an event. `retention.bytes` is set too, as a broker's default
    for it would delete a part of the history earlier. Observations are kept until their homes delete them.
    """
    names = Topics.of(prefix)
    configs = {
        names.versjoner: _kept(history_retention_ms),
        names.gjeldende: {"cleanup.policy": "compact"},
        names.quarantine: _kept(_QUARANTINE_DAYS * DAY_MS),
        names.positions: {"cleanup.policy": "compact"},
        names.signals: _kept(_SIGNALS_DAYS * DAY_MS),
        names.observations: _kept(FOR_EVER),
        names.observations_urgent: _kept(FOR_EVER),
    }
    return tuple(Topic(name, partitions, configs[name], replication) for name in names)


def _kept(retention_ms: int) -> dict[str, str]:
    return {"cleanup.policy": "delete", "retention.ms": str(retention_ms), "retention.bytes": "-1"}


def differences(wanted: tuple[Topic, ...], found: Mapping[str, Topic]) -> list[TopicDifference]:
    """Topics that are missing and properties that differ, in the order of `wanted`.

    Replication is compared only if a number is wanted.
    """
    found_differences = []
    for topic in wanted:
        there = found.get(topic.name)
        if there is None:
            found_differences.append(TopicDifference(topic.name, "topic", "present", None))
            continue
        if there.partitions != topic.partitions:
            found_differences.append(
                TopicDifference(topic.name, "partitions", str(topic.partitions), str(there.partitions))
            )
        if topic.replication not in {REPLICATION_OF_THE_BROKER, there.replication}:
            found_differences.append(
                TopicDifference(topic.name, "replication", str(topic.replication), str(there.replication))
            )
        found_differences += [
            TopicDifference(topic.name, name, value, there.config.get(name))
            for name, value in topic.config.items()
            if there.config.get(name) != value
        ]
    return found_differences


def durability_warnings(found: Mapping[str, Topic], brokers: int) -> list[str]:
    """What would be lost or stop if one of several brokers fails; a sentence for each kind, none for a single broker.

    With three replicas of which two must have a record, any one broker may fail or restart without an effect.
    """
    if brokers < 2:  # noqa: PLR2004 - one alone has nothing to replicate to
        return []
    in_sync = {name: int(topic.config.get("min.insync.replicas", "1")) for name, topic in found.items()}
    few = [name for name, topic in found.items() if topic.replication < min(brokers, REPLICATION_WANTED)]
    unsure = [name for name in found if name not in few and in_sync[name] < IN_SYNC_WANTED]
    strict = [name for name, topic in found.items() if name not in few and in_sync[name] >= topic.replication]
    warnings = []
    if few:
        warnings.append(
            f"{', '.join(few)}: fewer than {min(brokers, REPLICATION_WANTED)} replicas on {brokers} brokers, so that "
            "the end of one may stop the stream or lose records; create with --replication 3, or reassign the replicas"
        )
    if unsure:
        warnings.append(
            f"{', '.join(unsure)}: min.insync.replicas is 1, so that a record may be lost with one broker; set it to 2"
        )
    if strict:
        warnings.append(
            f"{', '.join(strict)}: min.insync.replicas is as large as the replication, so that the stream stops "
            "while any broker is down; set it to one less"
        )
    return warnings


class FoundTopics(msgspec.Struct, frozen=True):
    """The topics as found, whose they are, and whose state `…-positions` holds.

    `recorded` is the identity in the first partition of `…-positions`, `present` the one that would be recorded now.
    `unrecorded` are the lanes in whose partition none is recorded though there is one in the first, and those in whose
    partition is nothing else though they have published: the history was restored, and the state was not.
    `has_history` says whether events were ever published to these topics.
    """

    topics: Mapping[str, Topic]
    present: Identity
    recorded: Identity | None = None
    unrecorded: tuple[int, ...] = ()
    has_history: bool = False

    @property
    def is_new(self) -> bool:
        """Whether the identity is still to be recorded. Where there is a history its absence means a lost state."""
        return not self.has_history and (self.recorded is None or bool(self.unrecorded))


def present_identity(application_id: str, cluster_id: str, prefix: str, found: Mapping[str, Topic]) -> Identity:
    """The identity of these topics for this application; without lanes if `…-positions` is missing."""
    names = Topics.of(prefix)
    positions = found.get(names.positions)
    return Identity(
        0 if positions is None else positions.partitions,
        application_id,
        cluster_id,
        tuple(TopicIdentity(name, found[name].id, found[name].partitions) for name in names if name in found),
    )


def start_faults(prefix: str, found: FoundTopics) -> list[str]:
    """Why the service must not start with these topics, each with the remedy; none if it may."""
    faults = topic_faults(prefix, found)
    recorded = found.recorded
    if recorded is None or any(topic.partitions != recorded.lanes for topic in found.topics.values()):
        return faults
    fault = identity_fault(recorded, found.present)
    return faults if fault is None else [*faults, fault]


def identity_fault(recorded: Identity, present: Identity) -> str | None:
    """Why what is recorded keeps an application from using these topics, and the remedy; None if nothing does."""
    told = recorded.differences(present)
    if not told:
        return None
    return (
        f"the topics are recorded otherwise ({', '.join(told)}); where this is meant, as after renaming the "
        "application, moving the cluster or restoring topics, run `trekkpaalegg-producer topics adopt`; otherwise set "
        "TREKKPAALEGG_APPLICATION_ID, TREKKPAALEGG_TOPIC_PREFIX or KAFKA_BROKERS right"
    )


def lane_fault(prefix: str, lane: int, recorded: Identity | None, present: Identity) -> str | None:
    """As `identity_fault`, for what the lane's own partition of `…-positions` says: None if nothing is recorded."""
    if recorded is None:
        return _lost_state(prefix, (lane,))
    return identity_fault(recorded, present)


def topic_faults(prefix: str, found: FoundTopics) -> list[str]:
    """Those faults of `start_faults` that no adoption settles.

    Another number of partitions would make other lanes the homes of orders; a compacted history or a truncated state
    loses data.
    """
    names, faults = Topics.of(prefix), _layout_faults(prefix, found)
    if len(found.topics) < len(names):
        return faults
    if found.is_new:
        faults.append(
            f"{names.positions}: it is not recorded whose topics these are; run `trekkpaalegg-producer topics apply`"
        )
    elif found.recorded is None:
        faults.append(_lost_state(prefix, range(found.present.lanes)))
    elif found.unrecorded:
        faults.append(_lost_state(prefix, found.unrecorded))
    return faults


def rebuild_faults(prefix: str, found: FoundTopics) -> list[str]:
    """Why the state cannot be made again from the history in these topics, each with the remedy; none if it can."""
    names, faults = Topics.of(prefix), _layout_faults(prefix, found)
    if not (faults or found.has_history):
        faults.append(
            f"{names.versjoner} holds no event, and {names.gjeldende} neither: restore them; to begin anew instead, "
            f"delete {names.positions} and run `trekkpaalegg-producer topics apply`"
        )
    return faults


def _layout_faults(prefix: str, found: FoundTopics) -> list[str]:
    """Topics that are missing; if none is, those with another number of partitions or cleanup policy than they need."""
    names = Topics.of(prefix)
    missing = [name for name in names if name not in found.topics]
    if missing:
        fault = f"{', '.join(missing)}: no such topic; run `trekkpaalegg-producer topics apply`"
        if names.positions in missing and found.has_history:
            fault += ", then `trekkpaalegg-producer position rebuild`, as the state of the published events is lost"
        return [fault]
    faults = []
    for topic in wanted_topics(prefix):
        policy = found.topics[topic.name].config.get("cleanup.policy")
        if policy != topic.config["cleanup.policy"]:
            faults.append(f"{topic.name}: cleanup.policy is {policy}; set it to {topic.config['cleanup.policy']}")
    lanes = found.topics[names.versjoner].partitions if found.recorded is None else found.recorded.lanes
    return faults + [
        f"{name}: {topic.partitions} partitions, but there are {lanes} lanes; {_remedy(name, names, lanes)}"
        for name, topic in found.topics.items()
        if topic.partitions != lanes
    ]


def _lost_state(prefix: str, lanes: Iterable[int]) -> str:
    names = Topics.of(prefix)
    return (
        f"{names.positions}: the state of lane {', '.join(map(str, lanes))} is lost, though {names.versjoner} holds "
        "events; make it again from them: run `trekkpaalegg-producer position rebuild`"
    )


def _remedy(name: str, names: Topics, lanes: int) -> str:
    if name in {names.signals, names.observations, names.observations_urgent}:
        return (
            f"delete the topic, run `trekkpaalegg-producer topics apply --partitions {lanes}`, "
            "then `trekkpaalegg-producer topics adopt`"
        )
    if name == names.positions:
        return (
            f"delete the topic, run `trekkpaalegg-producer topics apply --partitions {lanes}`, "
            "then `trekkpaalegg-producer position rebuild`"
        )
    return (
        "partitions must not be added: restore the topic, or carry the history over to topics with another "
        "TREKKPAALEGG_TOPIC_PREFIX"
    )


def lanes_fault(prefix: str, partitions: int, found: Mapping[str, Topic]) -> str | None:
    """Why topics with `partitions` partitions must not be created beside those found; None if they may."""
    names = Topics.of(prefix)
    there = [found[name] for name in names if name in found]
    counts = {topic.partitions for topic in there}
    if len(there) == len(names) or counts <= {partitions}:
        return None
    if len(counts) > 1:
        listed = ", ".join(f"{topic.name} has {topic.partitions} partitions" for topic in there)
        return f"the number of lanes is not one: {listed}; restore the topics, or take another prefix"
    return f"the number of lanes is {counts.pop()} already; give it as --partitions"
