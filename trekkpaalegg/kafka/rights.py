"""Rights (ACLs) on Kafka, and the error that names those that a client lacks. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trekkpaalegg.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TOPIC, GROUP, TRANSACTIONAL_ID = "topic", "group", "transactional id"


class Right(NamedTuple):
    """An operation, as `WRITE`, on a resource of that kind and name."""

    operation: str
    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.operation} on {self.kind} {self.name}"


def not_permitted(rights: Iterable[Right], properties: Mapping[str, str], *, role: str = "producer") -> RefusedError:
    """The error for a client with these properties that lacks these rights. `role`: who has them in `acls apply`."""
    user = properties.get("sasl.username")
    certificate = properties.get("ssl.certificate.location")
    principal = f"User:{user}" if user else "User:…"
    who = principal if user else f"the owner of {certificate}" if certificate else "this client"
    named = ", ".join(str(right) for right in dict.fromkeys(rights))
    return RefusedError(
        f"Kafka does not permit {who}: {named}; "
        f"grant it: `trekkpaalegg-producer acls apply --{role}-principal {principal}`"
    )
