"""What an event on Kafka says, and the state of its order with and without it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec.structs import replace

from producer.domain.state import NO_ORDER, OrderState, with_missing, without
from producer.encode.event import TREKKPLIKTIG
from producer.publish.port import Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from confluent_kafka import Message

    from producer.domain.state import Missing


class PublishedEvent(NamedTuple):
    """An event, or a record of the quarantine, by its identity. `order` is the key of its order in the lane's state.

    `correction` is the number of a correction, `rejected` the hash of a quarantined record. `trekkpliktig` is the one
    that it names, empty if that is not known.
    """

    order: bytes
    trekkversjon: int = 0
    late: bool = False
    correction: int | None = None
    rejected: bytes | None = None
    trekkpliktig: str = ""


def headers_of(message: Message) -> dict[str, bytes]:
    """The headers by name."""
    headers: Any = message.headers() or []  # typed as what may be given, too
    return {name: value for name, value in headers if isinstance(value, bytes)}


def event_of(message: Message, *, is_rejected: bool = False) -> PublishedEvent | None:
    """The event, or with `is_rejected` the quarantine record, that a message holds; None if its headers do not say."""
    headers = headers_of(message)
    key, identity = message.key() or b"", headers.get("ce_id", b"")
    try:
        trekkpliktig = headers.get(TREKKPLIKTIG, b"").decode()
        if is_rejected:
            order = headers.get("ce_subject", b"#" + identity)
            rejected = bytes.fromhex(identity.decode())
            return PublishedEvent(order, rejected=rejected, trekkpliktig=trekkpliktig) if rejected else None
        trekkversjon, _, number = identity.removeprefix(key + b"/").partition(b"/")
        correction = int(number) if number else None
        return PublishedEvent(key, int(trekkversjon), "ce_late" in headers, correction, trekkpliktig=trekkpliktig)
    except ValueError:
        return None


def identity_of(event: PublishedEvent) -> bytes:
    """The event's `ce_id`."""
    identity = b"%s/%d" % (event.order, event.trekkversjon)
    return identity if event.correction is None else b"%s/%d" % (identity, event.correction)


def written_at(message: Message) -> int:
    """In milliseconds since 1970."""
    return message.timestamp()[1]


def copy_of(message: Message) -> Record:
    """The same record, to the same partition."""
    return Record(
        message.topic() or "", message.key() or b"", message.value(), headers_of(message), message.partition() or 0
    )


def is_recorded(order: OrderState, event: PublishedEvent) -> bool:
    """Whether the order's state records this event as published, so that it would not be published again."""
    if event.rejected is not None:
        return event.rejected in order.rejected
    if event.correction is not None:
        return order.corrections_of(event.trekkversjon) >= event.correction
    return event.trekkversjon <= order.trekkversjon and not order.is_missing(event.trekkversjon)


def events_between(key: bytes, before: OrderState, after: OrderState) -> Iterator[PublishedEvent]:
    """The events of the history that go with a change of the order's state from `before` to `after`."""
    for missing in before.missing:
        last = min(missing.last, before.trekkversjon, after.trekkversjon)
        for trekkversjon in _versions(missing.first, last, after.missing):
            yield PublishedEvent(key, trekkversjon, late=True)
    for trekkversjon in _versions(before.trekkversjon + 1, after.trekkversjon, after.missing):
        yield PublishedEvent(key, trekkversjon)
    for trekkversjon, number in after.corrections:
        for correction in range(before.corrections_of(trekkversjon) + 1, number + 1):
            yield PublishedEvent(key, trekkversjon, correction=correction)


def _versions(first: int, last: int, missing: Iterable[Missing]) -> Iterator[int]:
    """Those from first to last that are not missing. A range may hold millions, so they are not compared one by one."""
    for each in missing:
        yield from range(first, min(last, each.first - 1) + 1)
        first = max(first, each.last + 1)
    yield from range(first, last + 1)


def with_event(order: OrderState, event: PublishedEvent) -> OrderState:
    """The order's state once it records this event, which is committed.

    The hash of an added newest version is adopted when it is next read. Versions that were skipped count as missing.
    """
    trekkversjon = event.trekkversjon
    if is_recorded(order, event):
        return order
    if event.correction is not None:
        corrections = {**dict(order.corrections), trekkversjon: event.correction}
        order = replace(order, corrections=tuple(sorted(corrections.items())))
        return _with_newest(order, trekkversjon, NO_ORDER) if trekkversjon == order.trekkversjon else order
    missing = order.missing
    if trekkversjon > order.trekkversjon + 1:
        missing = with_missing(missing, order.trekkversjon + 1, trekkversjon - 1, "unknown")
    order = replace(
        order,
        missing=without(missing, trekkversjon, trekkversjon),
        failing=without(order.failing, trekkversjon, trekkversjon),
        seen=order.seen if order.seen > trekkversjon else 0,
    )
    return _with_newest(order, trekkversjon, NO_ORDER) if trekkversjon > order.trekkversjon else order


def without_events(order: OrderState, before: OrderState, events: Sequence[PublishedEvent]) -> OrderState:
    """The order's state once it does not record these events, which are not committed and must come again.

    `before` is the state before any of them, for its content hash. Whom the events name is asked for them by number; if
    they name nobody, they come when a list shows the order again.
    """
    left = order
    for event in events:
        if is_recorded(left, event):
            left = _without(left, before, event)
    if left is order:
        return order
    readers = tuple(dict.fromkeys((*[each.trekkpliktig for each in events if each.trekkpliktig], *order.readers)))
    if readers and order.trekkversjon > left.trekkversjon:
        left = replace(left, seen=max(order.seen, order.trekkversjon))
    return replace(left, readers=readers if left.is_open else (), tried_at=None)


def _without(order: OrderState, before: OrderState, event: PublishedEvent) -> OrderState:
    trekkversjon = event.trekkversjon
    if event.rejected is not None:
        kept = tuple(each for each in order.rejected if each != event.rejected)
        return replace(order, rejected=kept)
    if event.correction is not None:
        corrections = {**dict(order.corrections), trekkversjon: event.correction - 1}
        left = tuple(sorted(each for each in corrections.items() if each[1]))
        order = replace(order, corrections=left)
        is_newest = trekkversjon == order.trekkversjon == before.trekkversjon
        return _with_newest(order, trekkversjon, before) if is_newest else order
    if event.late:
        missing = with_missing(order.missing, trekkversjon, trekkversjon, "not committed")
        return replace(order, missing=missing)
    return _with_newest(order, trekkversjon - 1, before)


def _with_newest(order: OrderState, trekkversjon: int, known: OrderState) -> OrderState:
    """With this newest version, and the hash of its content if `known` is about the same version."""
    same = known if known.trekkversjon == trekkversjon else NO_ORDER
    return replace(
        order,
        trekkversjon=trekkversjon,
        content_hash=same.content_hash,
        content_hash_version=same.content_hash_version,
    )
