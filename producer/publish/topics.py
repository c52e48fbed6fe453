"""The topics as they should be configured, and how the topics of a cluster differ from that. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

FOR_EVER = -1
DAY_MS = 86_400_000
PARTITIONS_DEFAULT = 6
REPLICATION_OF_THE_BROKER = -1
REPLICATION_WANTED = 3
IN_SYNC_WANTED = 2
_RAW_HASH = re.compile(rb"#([0-9a-f]{16})")
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
    """A topic as wanted or as found. `config` holds the effective values, as Kafka formats them."""

    name: str
    partitions: int
    config: dict[str, str]
    replication: int = REPLICATION_OF_THE_BROKER


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


def start_faults(prefix: str, found: Mapping[str, Topic], lanes: int | None) -> list[str]:
    """Why the service must not start with these topics; a sentence each, none if it may.

    `lanes` is the number of lanes recorded in `…-positions`, None if there is none. Another number of partitions would
    assign employers to lanes without their state; a compacted history or a truncated state loses data.
    """
    names = Topics.of(prefix)
    missing = [name for name in names if name not in found]
    if missing:
        return [f"{', '.join(missing)}: no such topic; run `trekkpaalegg-producer topics apply`"]
    faults = []
    for topic in wanted_topics(prefix):
        policy = found[topic.name].config.get("cleanup.policy")
        if policy != topic.config["cleanup.policy"]:
            faults.append(f"{topic.name}: cleanup.policy is {policy}; set it to {topic.config['cleanup.policy']}")
    if lanes is None:
        faults.append(f"{names.positions}: no number of lanes recorded; run `trekkpaalegg-producer topics apply`")
        return faults
    return faults + [
        f"{name}: {found[name].partitions} partitions, but the state was made for {lanes} lanes; "
        "partitions must not be added: restore the topic, or start over under another prefix"
        for name in (names.positions, names.signals)
        if found[name].partitions != lanes
    ]


def lanes_fault(prefix: str, partitions: int, found: Mapping[str, Topic], lanes: int | None) -> str | None:
    """Why topics with `partitions` partitions must not be created beside those found; None if they may.

    The recorded number of lanes decides, else the existing one of `…-positions` and `…-signals`.
    """
    names = Topics.of(prefix)
    both = (names.positions, names.signals)
    counts = {found[name].partitions for name in both if name in found}
    lane_counts = counts if lanes is None else counts | {lanes}
    if len(lane_counts) > 1:
        listed = ", ".join(f"{name} has {found[name].partitions} partitions" for name in both if name in found)
        recorded = "none is recorded" if lanes is None else f"{lanes} are recorded"
        return f"the number of lanes is not one: {listed}, {recorded}; restore the topics, or take another prefix"
    if lane_counts and lane_counts != {partitions} and not all(name in found for name in both):
        return f"the number of lanes is {lane_counts.pop()} already; give it as --partitions"
    return None
