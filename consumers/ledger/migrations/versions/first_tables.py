"""The first tables, written out, because `tables.py` changes later and this migration must not."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_MOMENT = sa.DateTime(timezone=True)
_UNKNOWN_FIELDS = "fields that the schema does not know: name to JSON text"


def _decimal(precision: int, scale: int) -> Any:  # noqa: ANN401 - a type whose variant is another type
    return sa.Numeric(precision, scale).with_variant(sa.Text(), "sqlite")


def _column(name: str, kind: Any, comment: str, *, nullable: bool = False) -> sa.Column[Any]:  # noqa: ANN401 - as above
    return sa.Column(name, kind, nullable=nullable, comment=comment)


def upgrade() -> None:
    """Create all tables."""
    _make_orders()
    _make_periods()
    _make_messages()
    _make_identity()
    _make_postering()


def _order() -> list[sa.Column[Any]]:
    return [
        _column("sekvensnummer", _BIG, "global running number; gaps mean nothing"),
        _column("opprettet", _MOMENT, "when the version was made, UTC; never order by it"),
        _column("saksnummer", sa.Text(), "the authorities' case", nullable=True),
        _column("trekkpliktig", sa.Text(), "organisation number of the employer who withholds"),
        _column("skyldner", sa.Text(), "national id of the person. Personal data"),
        _column("trekkstatus", sa.Text(), "aktiv, avsluttet, or ukjent (not known here)"),
        _column("betalingsmottaker", sa.Text(), "organisation number of the payee"),
        _column("kidnummer", sa.Text(), "payment reference, one for each trekkid"),
        _column("kontonummer", sa.Text(), "bank account of the payee"),
        _column(
            "betalingsinformasjon_ukjente_felter",
            sa.JSON(),
            "fields beside those three that the schema does not know: name to JSON text",
        ),
        _column("ukjente_felter", sa.JSON(), _UNKNOWN_FIELDS),
    ]


def _history(correction: str = "which correction of the version this is; 0: as first made") -> list[sa.Column[Any]]:
    return [
        *_order(),
        _column("correction", sa.Integer(), correction),
        _column("late", sa.Boolean(), "published after newer versions of the same order"),
        _column(
            "trekkstoerrelse_for_periode",
            sa.JSON(),
            "the periods, as in the table of that name; decimals and dates are text",
        ),
    ]


def _version() -> list[sa.Column[Any]]:
    return [
        _column("trekkid", sa.Text(), "identity of the order over all its versions"),
        _column("trekkversjon", _BIG, "number of the version, from 1"),
    ]


def _make_orders() -> None:
    op.create_table(
        "trekkpaalegg",
        _column("trekkid", sa.Text(), "identity of the order over all its versions"),
        _column("trekkversjon", _BIG, "the newest version; only ever moves forward"),
        *_order(),
        _column("correction", sa.Integer(), "which correction of the version this is; 0: as first made"),
        sa.PrimaryKeyConstraint("trekkid"),
        comment="the newest version of each trekkpålegg",
        # With room for the next version beside each row no index changes with it: that halves the work.
        postgresql_with={"fillfactor": 50},
    )
    op.create_table(
        "trekkpaalegg_versjon",
        *_version(),
        *_history(),
        sa.PrimaryKeyConstraint("trekkid", "trekkversjon"),
        comment="every version of each trekkpålegg, in its last correction",
    )
    op.create_table(
        "trekkpaalegg_versjon_replaced",
        *_version(),
        *_history("which correction of the version this was; 0: as first made"),
        sa.PrimaryKeyConstraint("trekkid", "trekkversjon", "correction"),
        comment="versions that a correction has replaced, as they were",
    )


def _make_periods() -> None:
    op.create_table(
        "trekkstoerrelse_for_periode",
        _column("trekkid", sa.Text(), "the order whose newest version has this period"),
        _column("nummer", sa.Integer(), "position in the version's list, from 1"),
        _column("startdato", sa.Date(), "first day"),
        _column("sluttdato", sa.Date(), "last day, itself included; null: open", nullable=True),
        _column("trekkbeloep", _decimal(14, 2), "kroner to withhold each calendar month; 0: pause", nullable=True),
        _column(
            "trekkprosent",
            _decimal(5, 2),
            "percent of gross pay to withhold at every payout; 0: pause",
            nullable=True,
        ),
        _column("ukjente_felter", sa.JSON(), _UNKNOWN_FIELDS),
        sa.PrimaryKeyConstraint("trekkid", "nummer"),
        comment="the periods of the newest version of each trekkpålegg",
    )


def _coordinates(what: str) -> list[sa.Column[Any]]:
    return [
        _column("topic", sa.Text(), f"where Kafka has the {what}"),
        _column("partition", sa.Integer(), f"where Kafka has the {what}"),
        _column("offset", _BIG, f"where Kafka has the {what}"),
    ]


def _make_messages() -> None:
    op.create_table(
        "trekkpaalegg_conflict",
        *_coordinates("event"),
        _column("trekkid", sa.Text(), "identity of the order"),
        _column("trekkversjon", _BIG, "the version that came with two different contents"),
        *_history(),
        sa.PrimaryKeyConstraint("topic", "partition", "offset"),
        comment="events that contradict the same version in the ledger and are not marked as a correction",
    )
    op.create_table(
        "undecodable_message",
        *_coordinates("message"),
        _column("key", sa.LargeBinary(), "the message's key as it came", nullable=True),
        _column("value", sa.LargeBinary(), "the message's value as it came. May hold personal data", nullable=True),
        _column("headers", sa.JSON(), "the message's headers: name to text"),
        _column("reason", sa.Text(), "why it could not be decoded"),
        _column("received", _MOMENT, "when it was received, UTC"),
        sa.PrimaryKeyConstraint("topic", "partition", "offset"),
        comment="messages that could not be decoded, until a retry succeeds",
    )


def _make_identity() -> None:
    op.create_table(
        "ledger_offset",
        _column("topic", sa.Text(), "Kafka's topic"),
        _column("partition", sa.Integer(), "Kafka's partition"),
        _column("next_offset", _BIG, "all messages before this one are in the ledger"),
        sa.PrimaryKeyConstraint("topic", "partition"),
        comment="next offset to apply of each partition; moves in the same transaction as the rows",
    )
    op.create_table(
        "ledger",
        _column("id", sa.Text(), "identity of this ledger; names its consumer group"),
        _column("created", _MOMENT, "when it was made, UTC"),
        sa.PrimaryKeyConstraint("id"),
        comment="one row: which ledger this is",
    )


def _make_postering() -> None:
    op.create_table(
        "postering",
        _column("utbetalingsdato", sa.Date(), "date of the payout"),
        _column("utbetaling", sa.Text(), "which payout of that date; empty: the ordinary one"),
        _column("trekkid", sa.Text(), "the order that was withheld for"),
        _column("trekkversjon", _BIG, "the version that said how much"),
        _column("trekkpliktig", sa.Text(), "organisation number of the employer who withheld"),
        _column("skyldner", sa.Text(), "national id of the person. Personal data"),
        _column("brutto", _decimal(14, 2), "gross pay of the person at this payout, kroner"),
        _column("beloep", _decimal(14, 2), "what was withheld, kroner"),
        _column("trekkbeloep", _decimal(14, 2), "kroner a month, where the period says so", nullable=True),
        _column("trekkprosent", _decimal(5, 2), "percent of gross pay, where the period says so", nullable=True),
        _column(
            "allerede_trukket",
            _decimal(14, 2),
            "what other payouts of the month withheld and was counted for this order, kroner",
        ),
        _column("grunnlag", sa.Text(), "how the amount was determined, for people to read"),
        _column("varsler", sa.JSON(), "warnings for a person to check"),
        _column("betalingsmottaker", sa.Text(), "organisation number of the payee"),
        _column("kidnummer", sa.Text(), "payment reference"),
        _column("kontonummer", sa.Text(), "bank account of the payee"),
        _column("forfallsdato", sa.Date(), "when the payment is due"),
        _column(
            "betalingsoppdrag",
            sa.Integer(),
            "number of its payment file, from 1; null: nothing to pay, or held until the payee is accepted",
            nullable=True,
        ),
        _column("recorded", _MOMENT, "when the row was written, UTC"),
        sa.PrimaryKeyConstraint("utbetalingsdato", "utbetaling", "trekkid"),
        comment="what payouts withheld; never part of a replay's swap",
    )
    op.create_index("postering_trekkid", "postering", ["trekkid", "utbetalingsdato"])
    op.create_table(
        "utbetaling",
        _column("utbetalingsdato", sa.Date(), "date of the payout"),
        _column("utbetaling", sa.Text(), "which payout of that date; empty: the ordinary one"),
        _column("file_digest", sa.Text(), "SHA-256 of the persons and pay that were read"),
        _column("recorded", _MOMENT, "when the row was written, UTC"),
        sa.PrimaryKeyConstraint("utbetalingsdato", "utbetaling", "file_digest"),
        comment="which files of gross pay were processed; never part of a replay's swap",
    )
