"""What the list of an employer showed of an order, as it is handed over to the order's home. Pure.

An order's home is the lane whose partition its trekkid belongs to. Only that lane decides on the order.
"""

from __future__ import annotations

import msgspec

from producer.domain.trekkpaalegg import Element, Origin


def order_key(element: Element) -> bytes:
    """The key of the element's order in the state: its trekkid, or `#` and the element's hash if that is unknown."""
    if element.trekkid is None:
        return b"#" + element.raw_hash.hex().encode()
    return element.trekkid.encode()


class Observation(msgspec.Struct, frozen=True, gc=False):
    """One order as the list of `trekkpliktig` showed it: an element; or None, as the list lacks the order.

    `version` is set where the element is too large for a record: the home fetches that version by number instead.
    `requests` are the ids of the operator requests that the reading fulfils.
    """

    key: bytes
    trekkpliktig: str
    origin: Origin
    element: Element | None = None
    version: int | None = None
    requests: tuple[str, ...] = ()


class Known(msgspec.Struct, frozen=True, gc=False):
    """Orders that a list shows for the first time. A lane writes this to itself before it hands over the first of them.

    So whoever owns the lane next follows them, if the list lacks them by then.
    """

    trekkpliktig: str
    keys: tuple[bytes, ...]


class Question(msgspec.Struct, frozen=True, gc=False):
    """Asks a home to answer once it has decided on everything that was handed over before, for an operator request."""

    trekkpliktig: str
    request: str
