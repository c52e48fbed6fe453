"""Decide what to publish when an operator releases a quarantined record that can be understood now. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from producer.detect.detect import VERSION_JUMP_MAX, Context, Detection, correct, detect, order_key
from producer.domain.content import CONTENT_HASH_VERSION, content_hash
from producer.domain.state import OrderState, with_missing, without_missing
from producer.domain.trekkpaalegg import Origin, Publication
from producer.errors import RejectedTrekkpaaleggError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from producer.domain.state import TrekkpliktigState
    from producer.domain.trekkpaalegg import Fetched, Trekkpaalegg


def release(
    state: TrekkpliktigState,
    element: Trekkpaalegg,
    versions: Mapping[tuple[str, int], Fetched],
    context: Context,
    *,
    correction: bool,
) -> Detection:
    """Decide what becomes of a released version. Changes nothing.

    A version that names another trekkpliktig that we serve is left to that one's lane. A version that was never
    published is published as usual: a newer one in its turn, an older one late. A jump is now believed, and the
    versions between are recorded as missing. Other content of a published version is published as a
    correction, if `correction` allows it.

    Raises `RejectedTrekkpaaleggError`, with the reason, if there is nothing to publish.
    """
    key = order_key(element)
    order = state.order(key)
    context = msgspec.structs.replace(context, origin=Origin.RELEASE, moves_position=False)
    if element.trekkpliktig != context.trekkpliktig and element.trekkpliktig in context.served:
        return Detection(state.position.position)
    ahead = element.trekkversjon - order.trekkversjon
    if ahead > 0 or order.is_missing(element.trekkversjon):
        if ahead <= VERSION_JUMP_MAX:
            return detect(state, [element], versions, context)
        missing = with_missing(order.missing, order.trekkversjon + 1, element.trekkversjon - 1)
        believed = OrderState(
            element.trekkversjon,
            content_hash(element),
            CONTENT_HASH_VERSION,
            without_missing(missing, element.trekkversjon),
            order.rejected,
            order.corrections,
        )
        return Detection(state.position.position, [Publication(element, Origin.RELEASE)], [], {key: believed})
    if ahead == 0 and content_hash(element) == order.content_hash:
        message = "nothing to release: this version is published with the same content"
        raise RejectedTrekkpaaleggError(message, "trekkversjon")
    if not correction:
        message = "this version was published with other content: release it with --correction to replace it"
        raise RejectedTrekkpaaleggError(message, "trekkversjon")
    publication, corrected = correct(order, element, Origin.RELEASE)
    return Detection(state.position.position, [publication], [], {key: corrected})
