"""One message in, the event with its marks and where it stands out. Pure, save for what the decoder asks a registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from consumers.errors import UndecodableError
from consumers.event import TrekkpaaleggVersjon

if TYPE_CHECKING:
    from collections.abc import Mapping


class Coordinates(msgspec.Struct, frozen=True, order=True):
    """Where a message stands in Kafka."""

    topic: str
    partition: int
    offset: int


class Incoming(msgspec.Struct, frozen=True):
    """One event as it came: `late` and `correction` (0: none) are what its headers say."""

    coordinates: Coordinates
    event: TrekkpaaleggVersjon
    late: bool = False
    correction: int = 0

    @property
    def version(self) -> tuple[str, int]:
        """Which version it is: (trekkid, trekkversjon)."""
        return self.event.trekkid, self.event.trekkversjon


class UndecodableMessage(msgspec.Struct, frozen=True):
    """One message that holds no event that we can read, with all that is needed to try again."""

    coordinates: Coordinates
    key: bytes | None
    value: bytes | None
    headers: dict[str, str]
    reason: str


def marks_of(headers: Mapping[str, bytes]) -> tuple[bool, int]:
    """`ce_late` and `ce_correction` as (late, correction). Raises `UndecodableError` for marks of another form."""
    late = headers.get("ce_late", b"false")
    correction = headers.get("ce_correction", b"0")
    if late not in {b"true", b"false"}:
        raise UndecodableError("the header ce_late is neither true nor false")
    if not correction.isdigit():
        raise UndecodableError("the header ce_correction is no number")
    return late == b"true", int(correction)
