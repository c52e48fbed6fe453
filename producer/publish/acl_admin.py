"""Principals in, the rights that Kafka has for them out; and rights in, granted."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not all of them are in its __all__
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from producer.connection.diagnosis import LastReason
from producer.connection.permission import GROUP, TOPIC, TRANSACTIONAL_ID, Right
from producer.errors import FatalError, NotPermittedError, RetryableError
from producer.publish.acls import Acl

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CALL_SECONDS_MAX = 10.0
_CLUSTER = "cluster"
_KINDS = {
    TOPIC: ResourceType.TOPIC,
    GROUP: ResourceType.GROUP,
    TRANSACTIONAL_ID: ResourceType.TRANSACTIONAL_ID,
    _CLUSTER: ResourceType.BROKER,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_LOGGER = logging.getLogger(f"{__name__}.librdkafka")
_LOGGER.addHandler(logging.NullHandler())
_LOGGER.propagate = False


class AclAdmin:
    """One connection of somebody who may see and grant rights.

    Every method raises `RetryableError`, with the reason, when Kafka does not answer, `NotPermittedError` when we may
    not do that ourselves, and `FatalError` when Kafka knows no rights or refuses otherwise.
    """

    def __init__(self, properties: Mapping[str, str]) -> None:
        self._properties = dict(properties)
        self._reason = LastReason()
        settings: dict[str, Any] = {**properties, "error_cb": self._reason.take}
        try:
            self._client = AdminClient(settings, logger=_LOGGER)
        except KafkaException as error:
            raise FatalError(f"the Kafka settings do not hold together: {error.args[0].str()}") from error

    def of(self, principals: Iterable[str]) -> list[Acl]:
        """Every right that these principals have or are denied, of whatever name; not what holds for everybody."""
        found = []
        for principal in principals:
            # It is annotated as if None, which fits every name, were not allowed.
            fitting: list[Any] = [
                *(ResourceType.ANY, None, ResourcePatternType.ANY),
                *(principal, None, AclOperation.ANY, AclPermissionType.ANY),
            ]
            asked = self._client.describe_acls(AclBindingFilter(*fitting), request_timeout=CALL_SECONDS_MAX)
            found += [_read(each) for each in self._result(asked, "seeing the rights", "DESCRIBE")]
        return found

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
            for future in self._client.create_acls(bindings, request_timeout=CALL_SECONDS_MAX).values():
                self._result(future, "granting rights", "ALTER")

    def _result(self, future: Any, what: str, operation: str) -> Any:  # noqa: ANN401  confluent-kafka's answers are of no type
        try:
            return future.result()
        except KafkaException as error:
            failed = error.args[0]
            if failed.code() == KafkaError.SECURITY_DISABLED:
                raise FatalError(
                    f"{what}: this Kafka has no authorizer, so everybody may do everything; "
                    "set authorizer.class.name on the brokers, or do without"
                ) from error
            if failed.code() == KafkaError.CLUSTER_AUTHORIZATION_FAILED:
                raise NotPermittedError(
                    f"{what}: Kafka does not permit this client {operation} on the cluster; "
                    "run it as a super user, or as one who has that right"
                ) from error
            self._client.poll(0)
            cause = self._reason.cause(self._properties)
            if cause is not None:
                raise RetryableError(f"{what}: no Kafka broker answered: {cause}") from error
            raise RetryableError(f"{what}: Kafka says {failed.name()}; look at KAFKA_BROKERS") from error


def _read(binding: Any) -> Acl:  # noqa: ANN401  as above
    kind = _NAMES.get(binding.restype, str(binding.restype.name).lower())
    return Acl(
        binding.principal,
        Right(binding.operation.name, kind, binding.name),
        is_prefix=binding.resource_pattern_type == ResourcePatternType.PREFIXED,
        denies=binding.permission_type == AclPermissionType.DENY,
    )
