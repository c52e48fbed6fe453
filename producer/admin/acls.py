"""The least rights (ACLs) that each program needs on Kafka: list them, compare them with those granted, grant them.

A principal that may read or write a topic may describe it, and one that may write a transactional id may describe that.
No program needs a right on the cluster: a transactional producer is idempotent by its transactional id alone.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import msgspec
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # they are not in its __all__
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from producer.publish.topics import Topics
from trekkpaalegg.errors import FatalError, RefusedError
from trekkpaalegg.kafka.admin import CALL_SECONDS_MAX, Admin
from trekkpaalegg.kafka.errors import GROUP, TOPIC, TRANSACTIONAL_ID, Right

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from concurrent.futures import Future

    from confluent_kafka.admin import AdminClient


CONSUMER_GROUP_PREFIX = "trekkpaalegg-consumer-"
"""What groups of consumers begin with where TREKKPAALEGG_CONSUMER_GROUP is not set; a ledger's id follows."""

CONSUMER_COMMANDS = ("run", "replay", "tail", "verify", "webhook")
_NEWEST_ONLY = "--newest-only"
_OF_OBSERVATIONS = ["WRITE", "READ", "DELETE"]


class Acl(msgspec.Struct, frozen=True):
    """One right of one principal (`User:name`) on every name that is, or with `is_prefix` begins with, the right's.

    `needed_by` says what fails without it. `denies`: it denies the right; such ACLs are only found, never wanted.
    """

    principal: str
    right: Right
    needed_by: str = ""
    is_prefix: bool = False
    denies: bool = False

    @property
    def identity(self) -> tuple[object, ...]:
        """Equal for two ACLs that say the same."""
        return self.principal, self.right, self.is_prefix, self.denies

    @property
    def resource(self) -> str:
        """The resource as people read it."""
        return f"{self.right.kind} {self.right.name}{'*' if self.is_prefix else ''}"


class Comparison(msgspec.Struct, frozen=True):
    """How the rights found differ from those wanted: which are missing, which are granted beyond them, which denied."""

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
    acls += [
        Acl(principal, Right(operation, TOPIC, name), "handing over what was read")
        for name in (topics.observations, topics.observations_urgent)
        for operation in _OF_OBSERVATIONS
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
    use = "topics apply"
    acls = [Acl(principal, Right("CREATE", TOPIC, name), use) for name in topics]
    acls += [Acl(principal, Right("DESCRIBE", TOPIC, name), use) for name in topics if name != topics.positions]
    acls += [Acl(principal, Right("DESCRIBE_CONFIGS", TOPIC, name), use) for name in topics]
    return [
        *acls,
        Acl(principal, Right("READ", TOPIC, topics.positions), use),
        Acl(principal, Right("WRITE", TOPIC, topics.positions), use),
    ]


def operations_needed(topics: Topics) -> dict[str, list[str]]:
    """Of each topic the operations that the service itself needs, besides describing it and its configuration."""
    return {
        topics.versjoner: ["READ", "WRITE"],
        topics.gjeldende: ["READ", "WRITE"],
        topics.quarantine: ["READ", "WRITE"],
        topics.positions: ["READ", "WRITE"],
        topics.signals: ["READ"],
        topics.observations: _OF_OBSERVATIONS,
        topics.observations_urgent: _OF_OBSERVATIONS,
    }


def compare(wanted: Iterable[Acl], found: Iterable[Acl]) -> Comparison:
    """How `found` differs from `wanted`. `found` are all rights that the principals of `wanted` have."""
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


_CLUSTER = "cluster"
_KINDS = {
    TOPIC: ResourceType.TOPIC,
    GROUP: ResourceType.GROUP,
    TRANSACTIONAL_ID: ResourceType.TRANSACTIONAL_ID,
    _CLUSTER: ResourceType.BROKER,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


class AclAdmin:
    """One connection of a user who may see and grant rights.

    Every method raises as those of `Admin`, and `FatalError` when the cluster has no authorizer.
    """

    def __init__(self, properties: Mapping[str, str]) -> None:
        self._admin = Admin(properties)

    def of(self, principals: Iterable[str]) -> list[Acl]:
        """Every right that these principals have or are denied, on any resource; not what holds for everybody."""
        filters = []
        for principal in principals:
            # It is annotated as if None, which fits every name, were not allowed.
            fitting: list[Any] = [
                *(ResourceType.ANY, None, ResourcePatternType.ANY),
                *(principal, None, AclOperation.ANY, AclPermissionType.ANY),
            ]
            filters.append(AclBindingFilter(*fitting))
        found = self._call(
            "seeing the rights",
            "DESCRIBE",
            lambda client: [client.describe_acls(each, request_timeout=CALL_SECONDS_MAX) for each in filters],
        )
        return [_read(each) for each in itertools.chain(*found)]

    def grant(self, acls: Iterable[Acl]) -> None:
        """Grant all of them. One that is granted already stays."""
        bindings = [
            AclBinding(
                _KINDS[each.right.kind],
                each.right.name,
                ResourcePatternType.PREFIXED if each.is_prefix else ResourcePatternType.LITERAL,
                each.principal,
                "*",
                AclOperation[each.right.operation],
                AclPermissionType.ALLOW,
            )
            for each in acls
        ]
        if bindings:
            self._call(
                "granting rights",
                "ALTER",
                lambda client: client.create_acls(bindings, request_timeout=CALL_SECONDS_MAX).values(),
            )

    def _call(self, what: str, operation: str, call: Callable[[AdminClient], Iterable[Future[Any]]]) -> list[Any]:
        expected = {KafkaError.SECURITY_DISABLED, KafkaError.CLUSTER_AUTHORIZATION_FAILED}
        try:
            return self._admin.call(
                what, lambda client: [self._admin.result(each) for each in call(client)], expected=expected
            )
        except KafkaException as error:
            if error.args[0].code() == KafkaError.SECURITY_DISABLED:
                raise FatalError(
                    f"{what}: this Kafka has no authorizer, so everybody may do everything; "
                    "set authorizer.class.name on the brokers, or do without"
                ) from error
            raise RefusedError(
                f"{what}: Kafka does not permit this client {operation} on the cluster; "
                "run it as a super user, or as a user who has that right"
            ) from error


def _read(binding: Any) -> Acl:  # noqa: ANN401  confluent-kafka's answers have no types
    kind = _NAMES.get(binding.restype, str(binding.restype.name).lower())
    return Acl(
        binding.principal,
        Right(binding.operation.name, kind, binding.name),
        is_prefix=binding.resource_pattern_type == ResourcePatternType.PREFIXED,
        denies=binding.permission_type == AclPermissionType.DENY,
    )
