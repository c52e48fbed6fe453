"""Postings of payouts that were taken back: the columns of `postering` at this migration, when, and why."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_MOMENT = sa.DateTime(timezone=True)


def _decimal(precision: int, scale: int) -> Any:  # noqa: ANN401 - a type whose variant is another type
    return sa.Numeric(precision, scale).with_variant(sa.Text(), "sqlite")


def _column(name: str, kind: Any, comment: str, *, nullable: bool = False) -> sa.Column[Any]:  # noqa: ANN401 - as above
    return sa.Column(name, kind, nullable=nullable, comment=comment)


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "postering_taken_back",
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
        _column("taken_back", _MOMENT, "when the payout was taken back, UTC"),
        _column("taken_back_reason", sa.Text(), "the reason given by the operator"),
        sa.PrimaryKeyConstraint("utbetalingsdato", "utbetaling", "trekkid", "taken_back"),
        comment="postings of payouts that were taken back; never part of a replay's swap",
    )
