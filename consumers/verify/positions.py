"""The producer's state in `…-positions`: which versions are published, and which are known to be missing.

The producer writes one record for each order, in the transaction of its events. See `schemas/order_state.avsc`.
"""

from __future__ import annotations

from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any

import fastavro

import schemas
from consumers.verify.events import SINGLE_OBJECT_MARKER, SINGLE_OBJECT_PREFIX_BYTES
from consumers.verify.findings import POSITIONS, Check, Difference
from consumers.verify.history import shown
from trekkpaalegg.errors import FatalError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from consumers.verify.history import History

_SEPARATOR = b"/"
_ORDER = "order_state"


class KnownMissing:
    """Published versions, and versions known to be missing at the source. Several trekkpliktige may have one order."""

    def __init__(self) -> None:
        self._runs: dict[bytes, dict[bytes, list[tuple[int, int]]]] = {}
        self._published: dict[bytes, int] = {}
        """The newest published version, by state key."""
        self.records = 0

    def add(self, key: bytes, value: bytes | None) -> None:
        """Add a record, in the order of its partition. Raises `FatalError` for an invalid one."""
        trekkpliktig, separator, trekkid = key.partition(_SEPARATOR)
        if not separator:
            return
        self.records += 1
        if value is None:
            self._published.pop(key, None)
            self._forget(trekkid, trekkpliktig)
            return
        state = _order_state(value)
        self._published[key] = state["trekkversjon"]
        runs = [(each["first"], each["last"]) for each in state["missing"]]
        if runs:
            self._runs.setdefault(trekkid, {})[trekkpliktig] = runs
        else:
            self._forget(trekkid, trekkpliktig)

    def has(self, key: bytes, trekkversjon: int) -> bool:
        """Whether the version is known to be missing."""
        by_trekkpliktig = self._runs.get(key, {}).values()
        return any(first <= trekkversjon <= last for runs in by_trekkpliktig for first, last in runs)

    def check(self, history: History) -> Check:
        """The check that every published version is in the history, which finds an order whose end is missing."""
        check = Check(POSITIONS, "orders", len(self._published))
        for key, trekkversjon in self._published.items():
            trekkid = key.partition(_SEPARATOR)[2]
            if trekkversjon == 0:
                continue
            place = history.places.get(trekkid)
            if place is None:
                check.add(
                    Difference("published according to positions, but not in versjoner", shown(trekkid), trekkversjon)
                )
            elif not history.has(place, trekkversjon):
                newest = history.newest[place]
                what = f"published according to positions, but versjoner ends at {newest}"
                check.add(Difference(what, shown(trekkid), trekkversjon))
        return check

    def _forget(self, trekkid: bytes, trekkpliktig: bytes) -> None:
        runs = self._runs.get(trekkid)
        if runs is not None:
            runs.pop(trekkpliktig, None)
            if not runs:
                del self._runs[trekkid]


def add_all(known: KnownMissing, records: Iterable[tuple[bytes | None, bytes | None]]) -> None:
    """Add several records; see `KnownMissing.add`."""
    for key, value in records:
        known.add(key or b"", value)


def _order_state(value: bytes) -> dict[str, Any]:
    prefix = value[:SINGLE_OBJECT_PREFIX_BYTES]
    written, wanted = _reading(prefix)
    try:
        buffer = BytesIO(value)
        buffer.seek(len(prefix))
        return fastavro.schemaless_reader(buffer, written, wanted)  # type: ignore[return-value] # it is a record
    except (EOFError, ValueError, IndexError) as error:
        raise FatalError("a record of the positions topic is cut off or damaged") from error


@cache
def _reading(prefix: bytes) -> tuple[Any, Any]:
    try:
        written = schemas.by_fingerprint(prefix.removeprefix(SINGLE_OBJECT_MARKER))
    except schemas.UnknownSchemaError as error:
        raise FatalError(
            "the positions topic holds a record of no released schema: "
            "was it written by a newer version of the producer, or is the topic another application's?"
        ) from error
    current = schemas.load(_ORDER)
    if written.name != _ORDER:
        raise FatalError("the positions topic holds another record where the state of an order should be")
    return written.parsed, None if written.fingerprint == current.fingerprint else current.parsed
