"""What the producer remembers in `…-positions`: what the home of each order has published, and whose topics these are.

The home of an order is the lane of its partition. It writes the state of the order, with the key `/<trekkid>`, in the
transaction of the order's events. See `schemas/order_state.avsc`. Schemas of a newer producer stand beside the state.
"""

from __future__ import annotations

from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any

import fastavro
import msgspec
from fastavro.read import SchemaResolutionError
from fastavro.schema import SchemaParseException

import schemas
from consumers.verify.events import SINGLE_OBJECT_MARKER, SINGLE_OBJECT_PREFIX_BYTES
from consumers.verify.findings import POSITIONS, Check, Difference
from consumers.verify.history import Run, named, shown
from trekkpaalegg.errors import FatalError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from consumers.verify.history import History

_SEPARATOR = b"/"
_IDENTITY_KEY = b"lanes"
_SCHEMA = b"@schema/"
_ORDER = "order_state"
_IDENTITY = "lane_count"


class Identity(msgspec.Struct, frozen=True):
    """Whose topics these are by one record. `topics`: id and number of partitions by name."""

    lanes: int
    application_id: str
    cluster_id: str
    topics: dict[str, tuple[str, int]]


class Irregular(msgspec.Struct, frozen=True):
    """What a home knows of an order besides its newest version."""

    missing: list[Run]
    corrections: dict[int, int]
    """By trekkversjon, how many corrections of it are published."""


class Positions:
    """The records of all partitions, as far as they have been read."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.orders: dict[int, dict[bytes, int]] = {}
        """By partition and trekkid, the newest published version."""
        self.identities: dict[int, Identity] = {}
        """By partition."""
        self._irregular: dict[int, dict[bytes, Irregular]] = {}
        self._recorded: dict[bytes, schemas.Schema] = {}
        """Schemas beside the state that are not among the released ones, by fingerprint."""

    def add(self, partition: int, key: bytes, value: bytes | None) -> None:
        """Add a record, in the order of its partition. Raises `FatalError` for an invalid one."""
        if key == _IDENTITY_KEY:
            self.identities.pop(partition, None)
            if value is not None:
                self.identities[partition] = self._identity(value)
        elif key.startswith(_SCHEMA) and value is not None:
            self._add_schema(key.removeprefix(_SCHEMA), value)
        elif key.startswith(_SEPARATOR):
            self._add_order(partition, key.removeprefix(_SEPARATOR), value)

    def missing(self, key: bytes) -> list[Run]:
        """The ranges of versions that are known to be missing, by trekkid."""
        return [run for orders in self._irregular.values() if key in orders for run in orders[key].missing]

    def has_missing(self, key: bytes, trekkversjon: int) -> bool:
        """Whether the version is known to be missing."""
        return any(first <= trekkversjon <= last for first, last in self.missing(key))

    def check(self, history: History) -> Check:
        """The check that the homes have published what is in the history, no more and no less.

        The home of an order is the lane of the partition in which its events are. That they are in the right one is
        another check.
        """
        check = Check(POSITIONS, "orders", sum(map(len, self.orders.values())))
        for partition, orders in self.orders.items():
            for key, newest in orders.items():
                place = history.places.get(key)
                if place is None and newest:
                    what = "published according to positions, but not in versjoner"
                    check.add(Difference(what, shown(key), newest))
                elif place is not None and history.partition[place] == partition:
                    check.differences += self._of_order(history, place, partition, key)
        for key, place in history.places.items():
            if key not in self.orders.get(history.partition[place], ()):
                check.add(Difference("in versjoner, but not known to its home", shown(key), history.newest[place]))
        return check

    def _add_order(self, partition: int, key: bytes, value: bytes | None) -> None:
        self._irregular.get(partition, {}).pop(key, None)
        if value is None:
            self.orders.get(partition, {}).pop(key, None)
            return
        state = self._decode(_ORDER, value)
        self.orders.setdefault(partition, {})[key] = state["trekkversjon"]
        if state["missing"] or state["corrections"]:
            self._irregular.setdefault(partition, {})[key] = Irregular(
                [(each["first"], each["last"]) for each in state["missing"]],
                {each["trekkversjon"]: each["corrections"] for each in state["corrections"]},
            )

    def _of_order(self, history: History, place: int, partition: int, key: bytes) -> Iterator[Difference]:
        """The differences of one order between its state and its events."""
        known, newest, trekkid = self.orders[partition][key], history.newest[place], shown(key)
        if known > newest and not history.has(place, known):
            yield Difference(f"published according to positions, but versjoner ends at {newest}", trekkid, known)
        elif known < newest:
            yield Difference(f"in versjoner, but its home knows none after version {known}", trekkid, newest)
        irregular = self._irregular.get(partition, {}).get(key)
        for first, last in irregular.missing if irregular else ():
            yield from named(
                "in versjoner, but missing according to positions", key, history.present(place, first, last)
            )
        corrections = irregular.corrections if irregular else {}
        published = history.last_corrections(place)
        for trekkversjon in sorted(corrections.keys() | published.keys()):
            by_home, there = corrections.get(trekkversjon, 0), published.get(trekkversjon, 0)
            if by_home > there:
                what = "published according to positions, but not in versjoner"
                yield Difference(what, trekkid, trekkversjon, by_home)
            elif by_home < there:
                yield Difference("in versjoner, but not known to its home", trekkid, trekkversjon, there)

    def _identity(self, value: bytes) -> Identity:
        found = self._decode(_IDENTITY, value)
        topics = {each["name"]: (each["id"], each["partitions"]) for each in found["topics"]}
        return Identity(found["lanes"], found["application_id"], found["cluster_id"], topics)

    def _add_schema(self, digits: bytes, value: bytes) -> None:
        try:
            schema = schemas.parse(digits.decode(), value.decode())
        except (ValueError, TypeError, KeyError, AttributeError, SchemaParseException) as error:
            raise FatalError("the positions topic holds no schema where one should be") from error
        if schema.fingerprint.hex().encode() != digits or not isinstance(schema.parsed, dict):
            raise FatalError("the positions topic holds another schema than its key says")
        self._recorded[schema.fingerprint] = schema

    def _decode(self, name: str, value: bytes) -> dict[str, Any]:
        prefix = value[:SINGLE_OBJECT_PREFIX_BYTES]
        recorded = self._recorded.get(prefix.removeprefix(SINGLE_OBJECT_MARKER))
        current = schemas.load(name).parsed
        if recorded is not None and recorded.parsed.get("name") == current["name"]:
            written, wanted = recorded.parsed, current
        else:
            written, wanted = _reading(name, prefix)
        try:
            buffer = BytesIO(value)
            buffer.seek(len(prefix))
            return fastavro.schemaless_reader(buffer, written, wanted)  # type: ignore[return-value] # it is a record
        except (EOFError, ValueError, IndexError, SchemaResolutionError) as error:
            raise FatalError("a record of the positions topic is cut off or damaged") from error


@cache
def _reading(name: str, prefix: bytes) -> tuple[Any, Any]:
    try:
        written = schemas.by_fingerprint(prefix.removeprefix(SINGLE_OBJECT_MARKER))
    except schemas.UnknownSchemaError as error:
        raise FatalError(
            "the positions topic holds a record of no schema that is known or recorded there: "
            "was it written by a newer version of the producer, or is the topic another application's?"
        ) from error
    current = schemas.load(name)
    if written.name != name:
        raise FatalError(f"the positions topic holds another record where a record of {name} should be")
    return written.parsed, None if written.fingerprint == current.fingerprint else current.parsed
