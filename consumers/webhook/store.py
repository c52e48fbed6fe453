"""The forwarder's state in a database: how far it has read, which events are pending, and which are parked.

A message is stored in the transaction that moves its partition's offset, and deleted when it was delivered. So a crash
loses nothing; at worst the events in flight are sent once more.
"""

from __future__ import annotations

import time
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from consumers.ledger.translation import translating
from consumers.webhook.cloudevent import EventMessage
from consumers.webhook.schedule import PendingEvent
from consumers.webhook.tables import webhook_event, webhook_forwarder, webhook_offset
from trekkpaalegg.errors import FatalError
from trekkpaalegg.incoming import Coordinates

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from sqlalchemy.engine import Connection, Engine

    from consumers.ledger.address import Address


class StateCounts(msgspec.Struct, frozen=True):
    """Events that are read and not delivered: `waiting` to be sent, `parked`, and `behind` a parked one of their order.

    `waiting_since` and `parked_since` are the times of the oldest, in seconds since 1970; None if there is none, or if
    it was stored by a version that did not record the time.
    """

    waiting: int = 0
    parked: int = 0
    behind: int = 0
    waiting_since: float | None = None
    parked_since: float | None = None


def counts_in(connection: Connection) -> StateCounts:
    """Count the events in the state."""
    event = webhook_event.c
    is_parked = event.parked_seconds.is_not(None)
    blocked = sa.select(event.trekkid).where(is_parked)
    is_behind = event.trekkid.in_(blocked)
    count = sa.func.count()
    waiting = connection.execute(sa.select(count, sa.func.min(event.taken_seconds)).where(~is_parked, ~is_behind))
    parked = connection.execute(sa.select(count, sa.func.min(event.parked_seconds)).where(is_parked))
    behind = connection.execute(sa.select(count).select_from(webhook_event).where(~is_parked, is_behind))
    waiting_count, waiting_since = waiting.one()
    parked_count, parked_since = parked.one()
    return StateCounts(waiting_count, parked_count, behind.scalar_one(), waiting_since, parked_since)


_PENDING = (
    webhook_event.c.sequence,
    webhook_event.c.trekkid,
    webhook_event.c.tries,
    webhook_event.c.failures,
    webhook_event.c.due_seconds,
)


class Parked(msgspec.Struct, frozen=True):
    """One parked event; `queued` events of the same order wait behind it."""

    coordinates: Coordinates
    order: str
    event_id: str
    parked_seconds: float
    failures: int
    reason: str
    queued: int


class StateUpdate(msgspec.Struct):
    """Results of attempts. `delivered` and `parked` name events by sequence; a reason explains each failure."""

    delivered: list[int] = []
    retried: list[tuple[PendingEvent, str]] = []
    parked: list[tuple[int, str]] = []


class ForwarderStore:
    """The state at one address, used by one thread. Every method raises `RetryableError` and `FatalError`.

    After `claim_ownership` a forwarder that owned the state before can no longer write.
    """

    def __init__(self, address: Address, engine: Engine) -> None:
        self.place = address.place
        self._engine = engine
        self._token: str | None = None
        self._next_sequence = 1

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def claim_ownership(self) -> None:
        """Become the only forwarder that may write. Hold a `ForwarderLock` first."""
        token = uuid.uuid4().hex
        with self._begin() as connection:
            connection.execute(sa.delete(webhook_forwarder))
            connection.execute(sa.insert(webhook_forwarder).values(id=1, token=token))
            last = connection.execute(sa.select(sa.func.max(webhook_event.c.sequence))).scalar()
        self._token = token
        self._next_sequence = (last or 0) + 1

    def next_offsets(self, topic: str) -> dict[int, int]:
        """By partition, the first offset that is not stored yet."""
        chosen = sa.select(webhook_offset.c.partition, webhook_offset.c.next_offset).where(
            webhook_offset.c.topic == topic
        )
        with self._begin() as connection:
            return {row.partition: row.next_offset for row in connection.execute(chosen)}

    def add(self, messages: Sequence[EventMessage]) -> list[PendingEvent]:
        """Store the messages and move the offsets past them. Stored messages are skipped, so a call may be repeated.

        `messages` are in the order of their partitions. The result includes events of an earlier call whose commit
        got no answer: only this process assigns sequences, so every sequence from the next one on is such an event.
        """
        with self._begin(owned=True) as connection:
            known = {
                (topic, partition): next_offset
                for topic, partition, next_offset in connection.execute(
                    sa.select(webhook_offset.c.topic, webhook_offset.c.partition, webhook_offset.c.next_offset)
                )
            }
            unanswered = [
                PendingEvent(*row)
                for row in connection.execute(
                    sa.select(*_PENDING)
                    .where(webhook_event.c.sequence >= self._next_sequence)
                    .order_by(webhook_event.c.sequence)
                )
            ]
            sequence = unanswered[-1].sequence + 1 if unanswered else self._next_sequence
            rows, moved = [], {}
            for each in messages:
                place = (each.coordinates.topic, each.coordinates.partition)
                if each.coordinates.offset < known.get(place, 0):
                    continue
                moved[place] = each.coordinates.offset + 1
                rows.append(_row(sequence, each))
                sequence += 1
            if rows:
                connection.execute(sa.insert(webhook_event), rows)
            for (topic, partition), next_offset in moved.items():
                _move(connection, topic, partition, next_offset, is_new=(topic, partition) not in known)
        self._next_sequence = sequence
        return unanswered + [PendingEvent(row["sequence"], row["trekkid"]) for row in rows]

    def pending(self, order: str | None = None) -> list[PendingEvent]:
        """Events to send, of all orders that are not blocked, or of one order."""
        blocked = sa.select(webhook_event.c.trekkid).where(webhook_event.c.parked_seconds.is_not(None))
        chosen = sa.select(*_PENDING).where(webhook_event.c.trekkid.not_in(blocked)).order_by(webhook_event.c.sequence)
        if order is not None:
            chosen = chosen.where(webhook_event.c.trekkid == order)
        with self._begin() as connection:
            return [PendingEvent(*row) for row in connection.execute(chosen)]

    def messages(self, sequences: Collection[int]) -> dict[int, EventMessage]:
        """The stored messages, by sequence."""
        chosen = sa.select(webhook_event).where(webhook_event.c.sequence.in_(list(sequences)))
        with self._begin() as connection:
            return {
                row.sequence: EventMessage(_coordinates(row), row.trekkid, row.value, row.headers)
                for row in connection.execute(chosen)
            }

    def update(self, update: StateUpdate, now_seconds: float) -> None:
        """Store the results of attempts. A call may be repeated."""
        with self._begin(owned=True) as connection:
            if update.delivered:
                connection.execute(sa.delete(webhook_event).where(webhook_event.c.sequence.in_(update.delivered)))
            for pending, reason in update.retried:
                _update(
                    connection,
                    pending.sequence,
                    tries=pending.tries,
                    failures=pending.failures,
                    due_seconds=pending.due_seconds,
                    reason=reason,
                )
            for sequence, reason in update.parked:
                _update(connection, sequence, parked_seconds=now_seconds, reason=reason)

    def blocked(self) -> set[str]:
        """The orders with a parked event."""
        chosen = sa.select(webhook_event.c.trekkid).where(webhook_event.c.parked_seconds.is_not(None))
        with self._begin() as connection:
            return set(connection.execute(chosen).scalars())

    def counts(self) -> StateCounts:
        """How many events are pending and parked, and since when."""
        with self._begin() as connection:
            return counts_in(connection)

    def parked(self) -> list[Parked]:
        """The parked events, the longest parked first."""
        behind = webhook_event.alias()
        queued = (
            sa.select(sa.func.count())
            .where(behind.c.trekkid == webhook_event.c.trekkid, behind.c.parked_seconds.is_(None))
            .scalar_subquery()
        )
        chosen = (
            sa.select(webhook_event, queued.label("queued"))
            .where(webhook_event.c.parked_seconds.is_not(None))
            .order_by(webhook_event.c.parked_seconds, webhook_event.c.sequence)
        )
        with self._begin() as connection:
            return [
                Parked(
                    _coordinates(row),
                    row.trekkid,
                    row.headers.get("ce_id", ""),
                    row.parked_seconds,
                    row.failures,
                    row.reason or "",
                    row.queued,
                )
                for row in connection.execute(chosen)
            ]

    def release(self, chosen: Collection[Coordinates]) -> int:
        """Send these parked events again, each before those queued behind it; returns how many were released."""
        values = {"parked_seconds": None, "tries": 0, "failures": 0, "due_seconds": 0.0}
        with self._begin() as connection:
            return sum(
                connection.execute(sa.update(webhook_event).where(_is_parked_at(each)).values(values)).rowcount
                for each in chosen
            )

    def drop(self, chosen: Collection[Coordinates]) -> int:
        """Delete these parked events; those queued behind them are sent. Returns how many were deleted."""
        with self._begin() as connection:
            return sum(
                connection.execute(sa.delete(webhook_event).where(_is_parked_at(each))).rowcount for each in chosen
            )

    @contextmanager
    def _begin(self, *, owned: bool = False) -> Iterator[Connection]:
        """One transaction. With `owned` it is refused if another process has claimed ownership."""
        with translating(self.place), self._engine.begin() as connection:
            if owned:
                mine = sa.update(webhook_forwarder).where(webhook_forwarder.c.token == self._token)
                if connection.execute(mine.values(id=1)).rowcount != 1:
                    raise FatalError(f"{self.place}: another forwarder now uses this state; this one ends")
            yield connection


def _row(sequence: int, message: EventMessage) -> dict[str, Any]:
    return {
        **msgspec.structs.asdict(message.coordinates),
        "sequence": sequence,
        "trekkid": message.order,
        "value": message.value,
        "headers": message.headers,
        "tries": 0,
        "failures": 0,
        "due_seconds": 0.0,
        "taken_seconds": time.time(),
    }


def _move(connection: Connection, topic: str, partition: int, next_offset: int, *, is_new: bool) -> None:
    if is_new:
        values = {"topic": topic, "partition": partition, "next_offset": next_offset}
        connection.execute(sa.insert(webhook_offset).values(values))
        return
    place = (webhook_offset.c.topic == topic, webhook_offset.c.partition == partition)
    connection.execute(sa.update(webhook_offset).where(*place).values(next_offset=next_offset))


def _update(connection: Connection, sequence: int, **values: Any) -> None:  # noqa: ANN401 - columns of any type
    connection.execute(sa.update(webhook_event).where(webhook_event.c.sequence == sequence).values(values))


def _coordinates(row: Any) -> Coordinates:  # noqa: ANN401 - a row has the columns that were asked for
    return Coordinates(row.topic, row.partition, row.offset)


def _is_parked_at(place: Coordinates) -> sa.ColumnElement[bool]:
    return sa.and_(
        webhook_event.c.topic == place.topic,
        webhook_event.c.partition == place.partition,
        webhook_event.c.offset == place.offset,
        webhook_event.c.parked_seconds.is_not(None),
    )
