"""Partitions as Kafka tells of them in, why nothing can be written to them and what to do about it out. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

UNANSWERED = (
    "no Kafka broker answers: see whether the brokers run, whether there is room on their disks, and whether "
    "KAFKA_BROKERS is right"
)


class Replicas(msgspec.Struct, frozen=True):
    """One partition: whether a broker leads it, how many replicas are in sync, and how many a write needs."""

    topic: str
    has_leader: bool
    in_sync: int
    in_sync_min: int


def standstill_of(partitions: Iterable[Replicas]) -> str | None:
    """Why writing fails, with what to do about it; None when every partition can be written to."""
    leaderless: set[str] = set()
    short: dict[str, Replicas] = {}
    for each in partitions:
        if not each.has_leader:
            leaderless.add(each.topic)
        elif each.in_sync < each.in_sync_min:
            worst = short.get(each.topic)
            if worst is None or each.in_sync < worst.in_sync:
                short[each.topic] = each
    told = []
    if leaderless:
        told.append(
            f"no broker leads all of {', '.join(sorted(leaderless))}: look at the broker's disk, make room if it is "
            "full, and start the brokers that are down"
        )
    told += [
        f"{topic} takes nothing with {each.in_sync} replicas in sync, as its min.insync.replicas is "
        f"{each.in_sync_min}: start the brokers that are down, or lower the setting"
        for topic, each in sorted(short.items())
    ]
    return "; ".join(told) or None
