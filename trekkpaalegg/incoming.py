"""Decodes a Kafka message into an event, its marks and coordinates. Pure, unless the decoder needs a registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from trekkpaalegg.errors import UndecodableError
from trekkpaalegg.event import TrekkpaaleggVersjon

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from confluent_kafka import Message

_BELOEP_END = 10**12
"""14 digits, two of them after the point."""

_PROSENT_END = 10**3
"""5 digits, two of them after the point."""


class Partition(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


class Advance(msgspec.Struct, frozen=True):
    """The offset of one partition moves: the batch holds all messages from `before` up to, not including, `after`."""

    before: int
    after: int


class Coordinates(msgspec.Struct, frozen=True, order=True, gc=False):
    """The place of a message in Kafka."""

    topic: str
    partition: int
    offset: int


class IncomingEvent(msgspec.Struct, frozen=True, gc=False):
    """One event as it was received. `late` and `correction` (0: none) are from its headers.

    `late`: a version that was published after newer ones of its order. `correction`: which correction of the version
    this is; a higher one replaces a lower one.
    """

    coordinates: Coordinates
    event: TrekkpaaleggVersjon
    late: bool = False
    correction: int = 0

    @property
    def version(self) -> tuple[str, int]:
        """Which version it is: (trekkid, trekkversjon)."""
        return self.event.trekkid, self.event.trekkversjon


class UndecodableMessage(msgspec.Struct, frozen=True):
    """One message that could not be decoded, with everything that is needed to try again."""

    coordinates: Coordinates
    key: bytes | None
    value: bytes | None
    headers: dict[str, str]
    reason: str


def marks_of(headers: Mapping[str, bytes | None]) -> tuple[bool, int]:
    """`ce_late` and `ce_correction` as (late, correction). Raises `UndecodableError` for marks of another form."""
    late = headers.get("ce_late", b"false")
    correction = headers.get("ce_correction", b"0") or b""
    if late not in {b"true", b"false"}:
        raise UndecodableError("the header ce_late is neither true nor false")
    if not correction.isdigit():
        raise UndecodableError("the header ce_correction is no number")
    return late == b"true", int(correction)


def storable(event: TrekkpaaleggVersjon) -> TrekkpaaleggVersjon:
    """The event, if a database can store it.

    Raises `UndecodableError` for a text with a NUL character, which PostgreSQL refuses, and for a number with more
    digits than the schema's precision, which Avro's bytes may hold: either would stop the consumer for good.
    """
    payment = event.betalingsinformasjon
    texts = (event.trekkid, event.saksnummer or "", event.trekkpliktig, event.skyldner.reveal())
    if "\x00" in "".join((*texts, payment.betalingsmottaker, payment.kidnummer, payment.kontonummer)):
        raise UndecodableError("a text of the event holds a NUL character, which databases cannot store")
    for periode in event.trekkstoerrelse_for_periode:
        beloep, prosent = periode.trekkbeloep, periode.trekkprosent
        if (beloep is not None and abs(beloep) >= _BELOEP_END) or (
            prosent is not None and abs(prosent) >= _PROSENT_END
        ):
            raise UndecodableError("a number of the event has more digits than the schema allows")
    return event


def incoming_of(
    message: Message, topic: str, decode: Callable[[bytes | None], TrekkpaaleggVersjon]
) -> IncomingEvent | UndecodableMessage:
    """The event of a message, or the message itself if it cannot be decoded. Raises as `decode` otherwise."""
    coordinates = Coordinates(topic, message.partition() or 0, message.offset() or 0)
    value = message.value()
    headers: dict[str, bytes | None] = dict(message.headers() or ())  # type: ignore[arg-type]  # a consumer gives pairs
    try:
        late, correction = marks_of(headers)
        return IncomingEvent(coordinates, storable(decode(value)), late, correction)
    except UndecodableError as error:
        texts = {name: (content or b"").decode(errors="replace") for name, content in headers.items()}
        return UndecodableMessage(coordinates, message.key(), value, texts, str(error))


def decode_again(
    message: UndecodableMessage, decode: Callable[[bytes | None], TrekkpaaleggVersjon]
) -> IncomingEvent | UndecodableMessage:
    """Decode a stored message again: its event, or itself with the current reason. Raises as `decode` otherwise."""
    try:
        late, correction = marks_of({name: text.encode() for name, text in message.headers.items()})
        return IncomingEvent(message.coordinates, storable(decode(message.value)), late, correction)
    except UndecodableError as error:
        return msgspec.structs.replace(message, reason=str(error))
