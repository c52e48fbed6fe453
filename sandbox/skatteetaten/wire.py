"""The JSON text of an order, in any of the legal shapes in which the real API may write it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from random import Random

Wire = dict[str, Any]

_AMOUNTS = ("trekkbeloep", "trekkprosent")
_DATES = ("startdato", "sluttdato")


class Shape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How often, from 0 to 1, a version is written in an unusual but legal way."""

    basic_date_rate: float = 0.0
    """Dates as `YYYYMMDD`."""
    decimal_point_rate: float = 0.0
    """Whole amounts as `5000.0`."""
    unknown_field_rate: float = 0.0
    """Unknown fields at the top, in a period and in betalingsinformasjon."""


PLAIN = Shape()
EVERY_SHAPE = Shape(basic_date_rate=0.1, decimal_point_rate=0.3, unknown_field_rate=0.05)


def render(wire: Wire) -> bytes:
    """The JSON text of one version."""
    return msgspec.json.encode(wire)


def parse(body: bytes) -> Wire:
    """The version that `render` wrote; msgspec.DecodeError if it is no JSON object."""
    return msgspec.json.decode(body, type=Wire)


def shaped(wire: Wire, random: Random, shape: Shape) -> Wire:
    """The same version, perhaps with basic dates, decimal points or unknown fields, as `random` and `shape` decide."""
    if shape.basic_date_rate and random.random() < shape.basic_date_rate:
        wire = _with_periods(wire, _basic_dates)
    if shape.decimal_point_rate and random.random() < shape.decimal_point_rate:
        wire = _with_periods(wire, _decimal_points)
    if shape.unknown_field_rate and random.random() < shape.unknown_field_rate:
        wire = _with_unknown_fields(wire)
    return wire


def restyled(wire: Wire) -> Wire:
    """The same content in another dress: fields in reverse order, basic dates, amounts with a decimal point."""
    plain = _with_periods(_with_periods(wire, _basic_dates), _decimal_points)
    return dict(reversed(plain.items()))


def _with_periods(wire: Wire, change: Any) -> Wire:  # noqa: ANN401  # a function of one period
    return {**wire, "trekkstoerrelseForPeriode": [change(period) for period in wire["trekkstoerrelseForPeriode"]]}


def _basic_dates(period: Wire) -> Wire:
    return {name: value.replace("-", "") if name in _DATES else value for name, value in period.items()}


def _decimal_points(period: Wire) -> Wire:
    return {name: {**value, name: float(value[name])} if name in _AMOUNTS else value for name, value in period.items()}


def _with_unknown_fields(wire: Wire) -> Wire:
    extended = _with_periods(wire, lambda period: {**period, "trekkgrunnlag": {"kode": "UTLEGG", "andel": 1.50}})
    payment = {**wire["betalingsinformasjon"], "iban": None}
    return {**extended, "betalingsinformasjon": payment, "prioritet": 3, "merknader": ["ny", {"nivaa": 2}]}
