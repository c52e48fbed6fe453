"""Whose topics these are: the application, the cluster and the topics that a lane's state belongs to. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Collection


class TopicIdentity(msgspec.Struct, frozen=True):
    """One topic as it was when the identity was recorded. `id` is Kafka's own, new whenever a topic is made again."""

    name: str
    id: str
    partitions: int


class Identity(msgspec.Struct, frozen=True):
    """What is recorded in every partition of `…-positions`. `lanes` is the number of partitions of every topic."""

    lanes: int
    application_id: str
    cluster_id: str
    topics: tuple[TopicIdentity, ...] = ()

    def differences(self, found: Identity) -> list[str]:
        """How what is `found` now differs from this, which is recorded: a sentence each."""
        told = [
            f"{what}: recorded {before}, now {now}"
            for what, before, now in (
                ("application id", self.application_id, found.application_id),
                ("cluster id", self.cluster_id, found.cluster_id),
                ("lanes", self.lanes, found.lanes),
            )
            if before != now
        ]
        recorded = {each.name: each for each in self.topics}
        for topic in found.topics:
            before = recorded.pop(topic.name, None)
            if before is None:
                told.append(f"{topic.name}: not recorded")
            elif before.partitions != topic.partitions:
                told.append(f"{topic.name}: recorded with {before.partitions} partitions, now {topic.partitions}")
            elif before.id != topic.id and self.cluster_id == found.cluster_id:
                told.append(f"{topic.name}: made again since it was recorded")
        return told + [f"{name}: recorded, and not there now" for name in recorded]

    def has_moved(self, found: Identity, names: Collection[str]) -> bool:
        """Whether the cluster, or one of the topics with these names, is another than is recorded here."""
        recorded = {each.name: each.id for each in self.topics if each.name in names}
        there = {each.name: each.id for each in found.topics if each.name in names}
        return self.cluster_id != found.cluster_id or recorded != there
