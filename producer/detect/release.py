"""Decide what to publish when an operator releases a quarantined record that can be understood now. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from producer.detect.decide import VERSION_JUMP_MAX, Decision, correct, decide
from producer.domain.content import CONTENT_HASH_VERSION, METHODS, content_hash
from producer.domain.observation import Observation, order_key
from producer.domain.state import with_missing, without
from producer.domain.trekkpaalegg import Origin, Publication, Rejected
from producer.errors import RejectedTrekkpaaleggError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from producer.domain.state import OrderState
    from producer.domain.trekkpaalegg import Fetched, Trekkpaalegg

JUMPED = "jump"
"""The reason for which the versions before a released jump are missing."""


def release(
    order: OrderState,
    element: Trekkpaalegg,
    versions: Mapping[int, Fetched],
    now: int,
    *,
    trekkpliktig: str,
    correction: bool,
) -> Decision:
    """Decide what becomes of a released version, which the list of `trekkpliktig` showed. Changes nothing.

    A version that was never published is published as usual: a newer one in its turn, an older one late. If one before
    it cannot be fetched now, nothing of it is published, and the order waits as usual. A jump is now believed, and the
    versions between are recorded as missing. Other content of a published version is published as a correction, if
    `correction` allows it.

    Raises `RejectedTrekkpaaleggError`, with the reason, if there is nothing to publish, or if `versions` holds this
    version as rejected.
    """
    rejected = versions.get(element.trekkversjon)
    if isinstance(rejected, Rejected):
        raise RejectedTrekkpaaleggError(rejected.reason.value, rejected.field_path)
    ahead = element.trekkversjon - order.trekkversjon
    if ahead > VERSION_JUMP_MAX:
        return Decision(_after_jump(order, element, trekkpliktig, now), [Publication(element, Origin.RELEASE)])
    if ahead > 0 or order.is_missing(element.trekkversjon):
        observation = Observation(order_key(element), trekkpliktig, Origin.RELEASE, element)
        return decide(order, observation, versions, now)
    method = order.content_hash_version
    if ahead == 0 and method in METHODS and content_hash(element, method=method) == order.content_hash:
        message = "nothing to release: this version is published with the same content"
        raise RejectedTrekkpaaleggError(message, "trekkversjon")
    if not correction:
        message = "this version was published with other content: release it with --correction to replace it"
        raise RejectedTrekkpaaleggError(message, "trekkversjon")
    publication, corrected = correct(order, element, Origin.RELEASE)
    return Decision(corrected, [publication])


def _after_jump(order: OrderState, element: Trekkpaalegg, trekkpliktig: str, now: int) -> OrderState:
    missing = with_missing(order.missing, order.trekkversjon + 1, element.trekkversjon - 1, JUMPED)
    return replace(
        order,
        trekkversjon=element.trekkversjon,
        content_hash=content_hash(element),
        content_hash_version=CONTENT_HASH_VERSION,
        missing=without(missing, element.trekkversjon, element.trekkversjon),
        seen=order.seen if order.seen > element.trekkversjon else 0,
        failing=without(order.failing, 1, element.trekkversjon),
        readers=order.readers if trekkpliktig in order.readers else (*order.readers, trekkpliktig),
        tried_at=now,
    )
