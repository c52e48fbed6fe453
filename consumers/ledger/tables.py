"""The tables of a ledger, one definition for PostgreSQL and SQLite. Columns are the wire names in snake_case.

Names have no schema: on PostgreSQL the connection's search path decides, so that a replay can build the same tables
beside the live ones. Migrations create the tables; a test compares them with these definitions.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator

from trekkpaalegg.exactly_once.store import StoreTables, UtcMoment

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect


class ExactDecimal(TypeDecorator[Decimal]):
    """An exact decimal: NUMERIC on PostgreSQL, TEXT on SQLite, which has only floating point."""

    impl = sa.Numeric
    cache_ok = True

    def __init__(self, precision: int, scale: int) -> None:
        super().__init__(precision, scale)
        self._numeric = sa.Numeric(precision, scale)

    def load_dialect_impl(self, dialect: Dialect) -> Any:  # noqa: ANN401 - SQLAlchemy's own signature
        """See SQLAlchemy."""
        return dialect.type_descriptor(sa.Text() if dialect.name == "sqlite" else self._numeric)

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:  # noqa: ANN401 - as above
        """See SQLAlchemy."""
        return str(value) if value is not None and dialect.name == "sqlite" else value

    def process_result_value(self, value: Any | None, dialect: Dialect) -> Decimal | None:  # noqa: ANN401, ARG002 - as above
        """See SQLAlchemy."""
        return None if value is None else Decimal(value)


_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_MOMENT = UtcMoment()
metadata = sa.MetaData()


def _order_columns() -> list[sa.Column[Any]]:
    """The content of a version except its periods; the fields of `betalingsinformasjon` are columns."""
    return [
        sa.Column("sekvensnummer", _BIG, nullable=False, comment="global running number; gaps mean nothing"),
        sa.Column("opprettet", _MOMENT, nullable=False, comment="when the version was made, UTC; never order by it"),
        sa.Column("saksnummer", sa.Text, comment="the authorities' case"),
        sa.Column("trekkpliktig", sa.Text, nullable=False, comment="organisation number of the employer who withholds"),
        sa.Column("skyldner", sa.Text, nullable=False, comment="national id of the person. Personal data"),
        sa.Column("trekkstatus", sa.Text, nullable=False, comment="aktiv, avsluttet, or ukjent (not known here)"),
        sa.Column("betalingsmottaker", sa.Text, nullable=False, comment="organisation number of the payee"),
        sa.Column("kidnummer", sa.Text, nullable=False, comment="payment reference, one for each trekkid"),
        sa.Column("kontonummer", sa.Text, nullable=False, comment="bank account of the payee"),
        sa.Column(
            "betalingsinformasjon_ukjente_felter",
            sa.JSON,
            nullable=False,
            comment="fields beside those three that the schema does not know: name to JSON text",
        ),
        sa.Column(
            "ukjente_felter", sa.JSON, nullable=False, comment="fields that the schema does not know: name to JSON text"
        ),
        sa.Column(
            "correction",
            sa.Integer,
            nullable=False,
            comment="which correction of the version this is; 0: as first made",
        ),
    ]


def _history_columns() -> list[sa.Column[Any]]:
    return [
        *_order_columns(),
        sa.Column("late", sa.Boolean, nullable=False, comment="published after newer versions of the same order"),
        sa.Column(
            "trekkstoerrelse_for_periode",
            sa.JSON,
            nullable=False,
            comment="the periods, as in the table of that name; decimals and dates are text",
        ),
    ]


trekkpaalegg = sa.Table(
    "trekkpaalegg",
    metadata,
    sa.Column("trekkid", sa.Text, primary_key=True, comment="identity of the order over all its versions"),
    sa.Column("trekkversjon", _BIG, nullable=False, comment="the newest version; only ever moves forward"),
    *_order_columns(),
    comment="the newest version of each trekkpålegg",
    postgresql_with={"fillfactor": 50},
)

trekkpaalegg_versjon = sa.Table(
    "trekkpaalegg_versjon",
    metadata,
    sa.Column("trekkid", sa.Text, primary_key=True, comment="identity of the order over all its versions"),
    sa.Column("trekkversjon", _BIG, primary_key=True, autoincrement=False, comment="number of the version, from 1"),
    *_history_columns(),
    comment="every version of each trekkpålegg, in its last correction",
)

trekkpaalegg_versjon_replaced = sa.Table(
    "trekkpaalegg_versjon_replaced",
    metadata,
    sa.Column("trekkid", sa.Text, primary_key=True, comment="identity of the order over all its versions"),
    sa.Column("trekkversjon", _BIG, primary_key=True, autoincrement=False, comment="number of the version, from 1"),
    *[
        column
        if column.name != "correction"
        else sa.Column(
            "correction",
            sa.Integer,
            primary_key=True,
            autoincrement=False,
            comment="which correction of the version this was; 0: as first made",
        )
        for column in _history_columns()
    ],
    comment="versions that a correction has replaced, as they were",
)

trekkstoerrelse_for_periode = sa.Table(
    "trekkstoerrelse_for_periode",
    metadata,
    sa.Column("trekkid", sa.Text, primary_key=True, comment="the order whose newest version has this period"),
    sa.Column(
        "nummer", sa.Integer, primary_key=True, autoincrement=False, comment="position in the version's list, from 1"
    ),
    sa.Column("startdato", sa.Date, nullable=False, comment="first day"),
    sa.Column("sluttdato", sa.Date, comment="last day, itself included; null: open"),
    sa.Column("trekkbeloep", ExactDecimal(14, 2), comment="kroner to withhold each calendar month; 0: pause"),
    sa.Column("trekkprosent", ExactDecimal(5, 2), comment="percent of gross pay to withhold at every payout; 0: pause"),
    sa.Column(
        "ukjente_felter", sa.JSON, nullable=False, comment="fields that the schema does not know: name to JSON text"
    ),
    comment="the periods of the newest version of each trekkpålegg",
)

trekkpaalegg_conflict = sa.Table(
    "trekkpaalegg_conflict",
    metadata,
    sa.Column("topic", sa.Text, primary_key=True, comment="where Kafka has the event"),
    sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False, comment="where Kafka has the event"),
    sa.Column("offset", _BIG, primary_key=True, autoincrement=False, comment="where Kafka has the event"),
    sa.Column("trekkid", sa.Text, nullable=False, comment="identity of the order"),
    sa.Column("trekkversjon", _BIG, nullable=False, comment="the version that came with two different contents"),
    *_history_columns(),
    comment="events that contradict the same version in the ledger and are not marked as a correction",
)

ledger_offset = sa.Table(
    "ledger_offset",
    metadata,
    sa.Column("topic", sa.Text, primary_key=True, comment="Kafka's topic"),
    sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False, comment="Kafka's partition"),
    sa.Column("next_offset", _BIG, nullable=False, comment="all messages before this one are in the ledger"),
    comment="next offset to apply of each partition; moves in the same transaction as the rows",
)

undecodable_message = sa.Table(
    "undecodable_message",
    metadata,
    sa.Column("topic", sa.Text, primary_key=True, comment="where Kafka has the message"),
    sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False, comment="where Kafka has the message"),
    sa.Column("offset", _BIG, primary_key=True, autoincrement=False, comment="where Kafka has the message"),
    sa.Column("key", sa.LargeBinary, comment="the message's key as it came"),
    sa.Column("value", sa.LargeBinary, comment="the message's value as it came. May hold personal data"),
    sa.Column("headers", sa.JSON, nullable=False, comment="the message's headers: name to text"),
    sa.Column("reason", sa.Text, nullable=False, comment="why it could not be decoded"),
    sa.Column("received", _MOMENT, nullable=False, comment="when it was received, UTC"),
    comment="messages that could not be decoded, until a retry succeeds",
)

ledger = sa.Table(
    "ledger",
    metadata,
    sa.Column("id", sa.Text, primary_key=True, comment="identity of this ledger; names its consumer group"),
    sa.Column("created", _MOMENT, nullable=False, comment="when it was made, UTC"),
    comment="one row: which ledger this is",
)


def _postering() -> list[sa.Column[Any]]:
    """What a payout withheld for one order. The same columns hold a posting in force and one taken back."""
    return [
        sa.Column("utbetalingsdato", sa.Date, primary_key=True, comment="date of the payout"),
        sa.Column(
            "utbetaling", sa.Text, primary_key=True, comment="which payout of that date; empty: the ordinary one"
        ),
        sa.Column("trekkid", sa.Text, primary_key=True, comment="the order that was withheld for"),
        sa.Column("trekkversjon", _BIG, nullable=False, comment="the version that said how much"),
        sa.Column("trekkpliktig", sa.Text, nullable=False, comment="organisation number of the employer who withheld"),
        sa.Column("skyldner", sa.Text, nullable=False, comment="national id of the person. Personal data"),
        sa.Column(
            "brutto", ExactDecimal(14, 2), nullable=False, comment="gross pay of the person at this payout, kroner"
        ),
        sa.Column("beloep", ExactDecimal(14, 2), nullable=False, comment="what was withheld, kroner"),
        sa.Column("trekkbeloep", ExactDecimal(14, 2), comment="kroner a month, where the period says so"),
        sa.Column("trekkprosent", ExactDecimal(5, 2), comment="percent of gross pay, where the period says so"),
        sa.Column(
            "allerede_trukket",
            ExactDecimal(14, 2),
            nullable=False,
            comment="what other payouts of the month withheld and was counted for this order, kroner",
        ),
        sa.Column("grunnlag", sa.Text, nullable=False, comment="how the amount was determined, for people to read"),
        sa.Column("varsler", sa.JSON, nullable=False, comment="warnings for a person to check"),
        sa.Column("betalingsmottaker", sa.Text, nullable=False, comment="organisation number of the payee"),
        sa.Column("kidnummer", sa.Text, nullable=False, comment="payment reference"),
        sa.Column("kontonummer", sa.Text, nullable=False, comment="bank account of the payee"),
        sa.Column("forfallsdato", sa.Date, nullable=False, comment="when the payment is due"),
        sa.Column(
            "betalingsoppdrag",
            sa.Integer,
            comment="number of its payment file, from 1; null: nothing to pay, or held until the payee is accepted",
        ),
        sa.Column("recorded", _MOMENT, nullable=False, comment="when the row was written, UTC"),
    ]


postering = sa.Table(
    "postering",
    metadata,
    *_postering(),
    sa.Index("postering_trekkid", "trekkid", "utbetalingsdato"),
    comment="what payouts withheld; never part of a replay's swap",
)

postering_taken_back = sa.Table(
    "postering_taken_back",
    metadata,
    *_postering(),
    sa.Column("taken_back", _MOMENT, primary_key=True, comment="when the payout was taken back, UTC"),
    sa.Column("taken_back_reason", sa.Text, nullable=False, comment="the reason given by the operator"),
    comment="postings of payouts that were taken back; never part of a replay's swap",
)

utbetaling = sa.Table(
    "utbetaling",
    metadata,
    sa.Column("utbetalingsdato", sa.Date, primary_key=True, comment="date of the payout"),
    sa.Column("utbetaling", sa.Text, primary_key=True, comment="which payout of that date; empty: the ordinary one"),
    sa.Column("file_digest", sa.Text, primary_key=True, comment="SHA-256 of the persons and pay that were read"),
    sa.Column("recorded", _MOMENT, nullable=False, comment="when the row was written, UTC"),
    comment="which files of gross pay were processed; never part of a replay's swap",
)

REPLAYED = (
    trekkpaalegg,
    trekkpaalegg_versjon,
    trekkpaalegg_versjon_replaced,
    trekkstoerrelse_for_periode,
    trekkpaalegg_conflict,
    ledger_offset,
)
"""The tables that a replay rebuilds and swaps in; all others are left as they are."""

STORE_TABLES = StoreTables(ledger_offset, undecodable_message)
"""The ledger's offsets and undecodable messages, as `trekkpaalegg.exactly_once` uses them."""
