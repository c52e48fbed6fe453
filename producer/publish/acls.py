"""Names in, the least rights that producer, consumers and administrator need on Kafka out; and what differs. Pure.

Whoever may read or write a topic may describe it, and whoever may write a transactional id may describe that; nobody
needs a right on the cluster, as a transactional producer is idempotent by its transactional id alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from producer.connection.permission import GROUP, TOPIC, TRANSACTIONAL_ID, Right
from producer.publish.topics import Topics

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

CONSUMER_GROUP_PREFIX = "trekkpaalegg-consumer-"
"""What groups of consumers begin with where TREKKPAALEGG_CONSUMER_GROUP is not set; a ledger's id follows."""

CONSUMER_COMMANDS = ("run", "replay", "tail", "verify", "webhook")
_NEWEST_ONLY = "--newest-only"


class Acl(msgspec.Struct, frozen=True):
    """One right of one principal (`User:name`) on every name that is, or with `is_prefix` begins with, the right's.

    `needed_by` says what fails without it. `denies`: it takes the right away; such are only found, never wanted.
    """

    principal: str
    right: Right
    needed_by: str = ""
    is_prefix: bool = False
    denies: bool = False

    @property
    def identity(self) -> tuple[object, ...]:
        """What makes it the one that it is; two with the same are the same."""
        return self.principal, self.right, self.is_prefix, self.denies

    @property
    def resource(self) -> str:
        """The resource as people read it."""
        return f"{self.right.kind} {self.right.name}{'*' if self.is_prefix else ''}"


class Comparison(msgspec.Struct, frozen=True):
    """Wanted rights beside those found: what is missing, what is granted beyond, and what is taken away."""

    missing: list[Acl]
    beyond: list[Acl]
    denied: list[Acl]


def producer_acls(principal: str, topic_prefix: str, application_id: str) -> list[Acl]:
    """What the producer needs: the service, single rounds, and the commands of its operators."""
    topics = Topics.of(topic_prefix)
    acls = [
        Acl(principal, Right("WRITE", TOPIC, topics.versjoner), "publishing"),
        Acl(principal, Right("WRITE", TOPIC, topics.gjeldende), "publishing"),
        Acl(principal, Right("WRITE", TOPIC, topics.quarantine), "publishing"),
        Acl(principal, Right("WRITE", TOPIC, topics.positions), "publishing"),
        Acl(principal, Right("READ", TOPIC, topics.positions), "taking a lane"),
        Acl(principal, Right("READ", TOPIC, topics.versjoner), "taking a lane"),
        Acl(principal, Right("READ", TOPIC, topics.gjeldende), "taking a lane"),
        Acl(principal, Right("READ", TOPIC, topics.signals), "being a worker"),
        Acl(principal, Right("WRITE", TOPIC, topics.signals), "notifications, and asking a running worker"),
        Acl(principal, Right("READ", TOPIC, topics.quarantine), "taking a lane; quarantine list, show and release"),
    ]
    acls += [Acl(principal, Right("DESCRIBE_CONFIGS", TOPIC, name), "every start") for name in topics]
    return [
        *acls,
        Acl(principal, Right("WRITE", TRANSACTIONAL_ID, f"{application_id}-"), "publishing", is_prefix=True),
        Acl(principal, Right("READ", GROUP, application_id), "being a worker"),
    ]


def consumer_acls(
    principal: str, topic_prefix: str, group: str | None, commands: Collection[str] = CONSUMER_COMMANDS
) -> list[Acl]:
    """What a consumer needs that runs these commands. `group` is its group, None for the ledgers' own."""
    topics = Topics.of(topic_prefix)
    acls = [Acl(principal, Right("READ", TOPIC, topics.versjoner), ", ".join(_in_order(commands)))]
    of_gjeldende = [
        command if command == "verify" else f"{command} {_NEWEST_ONLY}"
        for command in _in_order(commands)
        if command in {"run", "replay", "verify"}
    ]
    if of_gjeldende:
        acls.append(Acl(principal, Right("READ", TOPIC, topics.gjeldende), ", ".join(of_gjeldende)))
    if "verify" in commands:
        acls.append(Acl(principal, Right("READ", TOPIC, topics.positions), "verify"))
    if "run" in commands:
        right = Right("READ", GROUP, group or CONSUMER_GROUP_PREFIX)
        acls.append(Acl(principal, right, "run", is_prefix=group is None))
    return acls


def admin_acls(principal: str, topic_prefix: str) -> list[Acl]:
    """What `topics apply` needs. `acls apply` itself needs ALTER and DESCRIBE on the cluster, granted by its owner."""
    topics = Topics.of(topic_prefix)
    told = "topics apply"
    acls = [Acl(principal, Right("CREATE", TOPIC, name), told) for name in topics]
    acls += [Acl(principal, Right("DESCRIBE", TOPIC, name), told) for name in topics if name != topics.positions]
    acls += [Acl(principal, Right("DESCRIBE_CONFIGS", TOPIC, name), told) for name in topics]
    return [
        *acls,
        Acl(principal, Right("READ", TOPIC, topics.positions), told),
        Acl(principal, Right("WRITE", TOPIC, topics.positions), told),
    ]


def operations_needed(topics: Topics) -> dict[str, list[str]]:
    """Of each topic the operations that the service itself needs, besides describing it and its configuration."""
    return {
        topics.versjoner: ["READ", "WRITE"],
        topics.gjeldende: ["READ", "WRITE"],
        topics.quarantine: ["READ", "WRITE"],
        topics.positions: ["READ", "WRITE"],
        topics.signals: ["READ"],
    }


def compare(wanted: Iterable[Acl], found: Iterable[Acl]) -> Comparison:
    """What is otherwise than wanted. `found` are all that the principals of `wanted` have."""
    wanted, found = list(wanted), list(found)
    there = {each.identity for each in found}
    asked_for = {each.identity for each in wanted}
    return Comparison(
        missing=[each for each in wanted if each.identity not in there],
        beyond=[each for each in found if each.identity not in asked_for and not each.denies],
        denied=[each for each in found if each.denies],
    )


def _in_order(commands: Collection[str]) -> list[str]:
    return [command for command in CONSUMER_COMMANDS if command in commands]
