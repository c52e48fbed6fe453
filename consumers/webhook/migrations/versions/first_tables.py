"""The first tables, as they were before there were migrations, written out, because `tables.py` changes later."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_PLACE = "where Kafka has the message"


def _column(name: str, kind: Any, comment: str, *, nullable: bool = False) -> sa.Column[Any]:  # noqa: ANN401 - a type whose variant is another type
    return sa.Column(name, kind, nullable=nullable, comment=comment)


def upgrade() -> None:
    """Make all tables."""
    op.create_table(
        "webhook_event",
        sa.Column("sequence", _BIG, autoincrement=False, comment="events of one order go in this order"),
        _column("topic", sa.Text(), _PLACE),
        _column("partition", sa.Integer(), _PLACE),
        _column("offset", _BIG, _PLACE),
        _column("trekkid", sa.Text(), "the order, by the message's key"),
        _column("value", sa.LargeBinary(), "the message's value as it came. Holds personal data", nullable=True),
        _column("headers", sa.JSON(), "the message's headers: name to text"),
        _column("tries", sa.Integer(), "attempts so far"),
        _column("failures", sa.Integer(), "attempts that the receiver answered, but did not take"),
        _column("due_seconds", sa.Double(), "when it is sent next, seconds since 1970"),
        _column(
            "parked_seconds", sa.Double(), "when it was parked, seconds since 1970; null: it is not", nullable=True
        ),
        _column("reason", sa.Text(), "what came of the last attempt", nullable=True),
        sa.PrimaryKeyConstraint("sequence"),
        sa.UniqueConstraint("topic", "partition", "offset"),
        comment="events that are read and not delivered; a delivered one is deleted",
    )
    is_parked = sa.text("parked_seconds IS NOT NULL")
    op.create_index(
        "webhook_event_parked", "webhook_event", ["sequence"], sqlite_where=is_parked, postgresql_where=is_parked
    )
    op.create_index("webhook_event_by_order", "webhook_event", ["trekkid", "sequence"])
    op.create_table(
        "webhook_offset",
        _column("topic", sa.Text(), "Kafka's topic"),
        sa.Column("partition", sa.Integer(), autoincrement=False, comment="Kafka's partition"),
        _column("next_offset", _BIG, "all messages before this one were delivered or are kept"),
        sa.PrimaryKeyConstraint("topic", "partition"),
        comment="how far the forwarder has read; moves in the same transaction as the events",
    )
    op.create_table(
        "webhook_forwarder",
        sa.Column("id", sa.Integer(), autoincrement=False, comment="always 1"),
        _column("token", sa.Text(), "who forwards; another one's writes are refused"),
        sa.PrimaryKeyConstraint("id"),
        comment="one row: which process forwards from this state",
    )
