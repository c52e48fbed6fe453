"""The tables of the forwarder's state. They are separate from a ledger's tables, even in the same database."""

from __future__ import annotations

import sqlalchemy as sa

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
metadata = sa.MetaData()

webhook_event = sa.Table(
    "webhook_event",
    metadata,
    sa.Column("sequence", _BIG, primary_key=True, autoincrement=False, comment="events of one order go in this order"),
    sa.Column("topic", sa.Text, nullable=False, comment="where Kafka has the message"),
    sa.Column("partition", sa.Integer, nullable=False, comment="where Kafka has the message"),
    sa.Column("offset", _BIG, nullable=False, comment="where Kafka has the message"),
    sa.Column("trekkid", sa.Text, nullable=False, comment="the order, by the message's key"),
    sa.Column("value", sa.LargeBinary, comment="the message's value as it came. Holds personal data"),
    sa.Column("headers", sa.JSON, nullable=False, comment="the message's headers: name to text"),
    sa.Column("tries", sa.Integer, nullable=False, comment="attempts so far"),
    sa.Column("failures", sa.Integer, nullable=False, comment="attempts that the receiver answered, but did not take"),
    sa.Column("due_seconds", sa.Double, nullable=False, comment="when it is sent next, seconds since 1970"),
    sa.Column("parked_seconds", sa.Double, comment="when it was parked, seconds since 1970; null: it is not"),
    sa.Column("reason", sa.Text, comment="what came of the last attempt"),
    sa.Column(
        "taken_seconds",
        sa.Double,
        comment="when it was read and stored, seconds since 1970; null: by a version that did not record it",
    ),
    sa.UniqueConstraint("topic", "partition", "offset"),
    comment="events that are read and not delivered; a delivered one is deleted",
)
sa.Index("webhook_event_by_order", webhook_event.c.trekkid, webhook_event.c.sequence)
sa.Index(
    "webhook_event_parked",
    webhook_event.c.sequence,
    postgresql_where=webhook_event.c.parked_seconds.is_not(None),
    sqlite_where=webhook_event.c.parked_seconds.is_not(None),
)

webhook_offset = sa.Table(
    "webhook_offset",
    metadata,
    sa.Column("topic", sa.Text, primary_key=True, comment="Kafka's topic"),
    sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False, comment="Kafka's partition"),
    sa.Column("next_offset", _BIG, nullable=False, comment="all messages before this one were delivered or are kept"),
    comment="how far the forwarder has read; moves in the same transaction as the events",
)

webhook_forwarder = sa.Table(
    "webhook_forwarder",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False, comment="always 1"),
    sa.Column("token", sa.Text, nullable=False, comment="who forwards; another one's writes are refused"),
    comment="one row: which process forwards from this state",
)
