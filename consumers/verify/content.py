"""The content of a version in a form that topic, ledger and source share, so that it can be compared.

Sums of such numbers compare a whole ledger with a topic without keeping either. What they show as different is then
compared field by field. Nothing here is shared with the code that writes the ledger, so that an error of that is not
made twice.

Rules of the wire: Skatteetaten, "API for trekkpålegg", and the names in `schemas/README.md`.
"""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping


MASK = (1 << 64) - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(1970, 1, 1)
_SCALE = 2
_SECONDS_A_DAY = 86_400
_MICROS = 1_000_000

ORDER_FIELDS = (
    "trekkid",
    "trekkversjon",
    "sekvensnummer",
    "opprettet",
    "saksnummer",
    "trekkpliktig",
    "skyldner",
    "trekkstatus",
    "betalingsmottaker",
    "kidnummer",
    "kontonummer",
    "betalingsinformasjon_ukjente_felter",
    "ukjente_felter",
    "correction",
)
PERIOD_FIELDS = ("startdato", "sluttdato", "trekkbeloep", "trekkprosent", "ukjente_felter")

Period = tuple[str, str | None, int | None, int | None, frozenset[tuple[str, str]] | None]
"""As `PERIOD_FIELDS`: dates as ISO text, amounts as hundredths."""


class Content(NamedTuple):
    """What one version says. `order` is as `ORDER_FIELDS`, with microseconds since 1970 for the moment."""

    order: tuple[Any, ...]
    periods: tuple[Period, ...]

    def order_number(self) -> int:
        """Of all but the periods."""
        return hash(self.order)

    def periods_number(self) -> int:
        """Of the periods with their places: the sum of `period_number`."""
        trekkid = self.order[0]
        return sum([period_number(trekkid, nummer, each) for nummer, each in enumerate(self.periods, 1)])

    def row_number(self, *, late: bool) -> int:
        """Of a row of the history."""
        return hash((self.order, self.periods, late))


class UnreadableRowError(ValueError):
    """A row of the ledger holds what no version can hold."""


class _StoredPeriod(msgspec.Struct):
    startdato: str
    sluttdato: str | None
    trekkbeloep: str | None
    trekkprosent: str | None
    ukjente_felter: dict[str, str]


_STORED_PERIODS = msgspec.json.Decoder(list[_StoredPeriod])
_STORED_FIELDS = msgspec.json.Decoder(dict[str, str])


def period_number(trekkid: str, nummer: int, period: Period) -> int:
    """Of one row of the newest version's periods; `nummer` is its place, from 1."""
    return hash((trekkid, nummer, period))


def place_number(trekkversjon: int, correction: int, *, replaced: bool) -> int:
    """Of where a version stands: in the history, or among what was replaced."""
    return hash((trekkversjon, correction, replaced, "place"))


def content_of_fields(fields: dict[str, Any], correction: int) -> Content:
    """From the plain fields of an event's value."""
    payment = fields["betalingsinformasjon"]
    order = (
        fields["trekkid"],
        fields["trekkversjon"],
        fields["sekvensnummer"],
        fields["opprettet"],
        fields["saksnummer"],
        fields["trekkpliktig"],
        fields["skyldner"],
        fields["trekkstatus"],
        payment["betalingsmottaker"],
        payment["kidnummer"],
        payment["kontonummer"],
        _pairs(payment["ukjente_felter"]),
        _pairs(fields["ukjente_felter"]),
        correction,
    )
    periods: list[Any] = [
        (
            _day(each["startdato"]),
            _day(each["sluttdato"]),
            _unscaled(each["trekkbeloep"]),
            _unscaled(each["trekkprosent"]),
            _pairs(each["ukjente_felter"]),
        )
        for each in fields["trekkstoerrelse_for_periode"]
    ]
    return Content(order, tuple(periods))


def order_of_row(row: Any) -> tuple[Any, ...]:  # noqa: ANN401 - a database's row of any driver
    """From the first columns of a row of `trekkpaalegg` or of the history. Raises `UnreadableRowError`."""
    trekkid, version, sekvensnummer, opprettet, *texts = row[:14]
    saksnummer, trekkpliktig, skyldner, status, mottaker, kidnummer, kontonummer, of_payment, own, correction = texts
    return (
        trekkid,
        version,
        sekvensnummer,
        micros_of(opprettet),
        saksnummer,
        trekkpliktig,
        skyldner,
        status,
        mottaker,
        kidnummer,
        kontonummer,
        _stored_pairs(of_payment),
        _stored_pairs(own),
        correction,
    )


def content_of_row(row: Any) -> tuple[Content, bool]:  # noqa: ANN401 - as above
    """From a row of the history or of what was replaced: the content, and whether it came late.

    Raises `UnreadableRowError`.
    """
    try:
        stored = _STORED_PERIODS.decode(row[15])
    except (msgspec.MsgspecError, TypeError) as error:
        raise UnreadableRowError("trekkstoerrelse_for_periode") from error
    periods = [
        (
            each.startdato,
            each.sluttdato,
            hundredths(each.trekkbeloep),
            hundredths(each.trekkprosent),
            _pairs(each.ukjente_felter),
        )
        for each in stored
    ]
    return Content(order_of_row(row), tuple(periods)), bool(row[14])


def period_of_row(row: Any) -> tuple[str, int, Period]:  # noqa: ANN401 - as above
    """From a row of `trekkstoerrelse_for_periode`: trekkid, nummer and the period. Raises `UnreadableRowError`."""
    trekkid, nummer, startdato, sluttdato, beloep, prosent, own = row
    period = (_iso(startdato), _iso(sluttdato), hundredths(beloep), hundredths(prosent), _stored_pairs(own))
    return trekkid, nummer, period  # type: ignore[return-value] # a start is never null


def differing(expected: tuple[Any, ...], found: tuple[Any, ...], names: tuple[str, ...]) -> tuple[str, ...]:
    """The names of what is not equal."""
    return tuple([name for name, one, other in zip(names, expected, found, strict=True) if one != other])


def differing_periods(expected: tuple[Period, ...], found: tuple[Period, ...]) -> tuple[str, ...]:
    """As `differing`, of lists of periods: `trekkstoerrelse_for_periode[1].trekkbeloep`, numbered from 1."""
    name = "trekkstoerrelse_for_periode"
    if len(expected) != len(found):
        return (name,)
    return tuple(
        [
            f"{name}[{nummer}].{field}"
            for nummer, (one, other) in enumerate(zip(expected, found, strict=True), 1)
            for field in differing(one, other, PERIOD_FIELDS)
        ]
    )


def _pairs(fields: dict[str, str]) -> frozenset[tuple[str, str]] | None:
    return frozenset(fields.items()) if fields else None


def _stored_pairs(text: str) -> frozenset[tuple[str, str]] | None:
    if text == "{}":
        return None
    try:
        return _pairs(_STORED_FIELDS.decode(text))
    except (msgspec.MsgspecError, TypeError) as error:
        raise UnreadableRowError("ukjente_felter") from error


@lru_cache(maxsize=65_536)
def _day(days: int | None) -> str | None:
    return None if days is None else (_EPOCH_DAY + timedelta(days=days)).isoformat()


@lru_cache(maxsize=65_536)
def _unscaled(digits: bytes | None) -> int | None:
    return None if digits is None else int.from_bytes(digits, "big", signed=True)


@lru_cache(maxsize=65_536)
def hundredths(amount: Decimal | str | None) -> int | None:
    """An amount or a percentage as a whole number. Raises `UnreadableRowError` for what has more than two decimals."""
    if amount is None:
        return None
    try:
        scaled = Decimal(amount).scaleb(_SCALE)
        if scaled == scaled.to_integral_value():
            return int(scaled)
    except (InvalidOperation, ValueError, OverflowError) as error:
        raise UnreadableRowError("amount") from error
    raise UnreadableRowError("amount")


@lru_cache(maxsize=65_536)
def _iso(day: date | str | None) -> str | None:
    return day.isoformat() if isinstance(day, date) else day


def micros_of(moment: datetime | str) -> int:
    """Microseconds since 1970, UTC where no zone is told. Raises `UnreadableRowError` for a text that is no moment."""
    try:
        instant = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    except ValueError as error:
        raise UnreadableRowError("opprettet") from error
    since = (instant if instant.tzinfo else instant.replace(tzinfo=UTC)) - _EPOCH
    return (since.days * _SECONDS_A_DAY + since.seconds) * _MICROS + since.microseconds


_STATUSES = frozenset({"aktiv", "avsluttet"})
_PAYMENT = ("betalingsmottaker", "kidnummer", "kontonummer")
_PERIODE = frozenset({"startdato", "sluttdato", "trekkbeloep", "trekkprosent"})
_ORDER = frozenset(
    {
        *("trekkid", "trekkversjon", "sekvensnummer", "opprettet", "saksnummer", "trekkpliktig", "skyldner"),
        *("trekkstatus", "trekkstoerrelseForPeriode", "betalingsinformasjon"),
    }
)


class UnreadableElementError(ValueError):
    """What the source sent is no version that we understand; says which field, and never its value."""


def content_of_element(element: Mapping[str, Any]) -> Content:
    """From wire names and JSON's values, numbers with a fraction as `Decimal`. Raises `UnreadableElementError`."""
    name = "$"
    try:
        unknown = {key: element[key] for key in element.keys() - _ORDER}
        name = "trekkstatus"
        status = element.get(name, "ukjent")
        if status not in _STATUSES:
            if name in element:
                unknown[name] = status
            status = "ukjent"
        name = "saksnummer"
        saksnummer = element.get(name)
        if saksnummer is not None and not isinstance(saksnummer, str):
            unknown[name], saksnummer = saksnummer, None
        name = "trekkstoerrelseForPeriode"
        periods = tuple(_periode(each) for each in element[name])
        name = "betalingsinformasjon"
        payment = element[name]
        of_payment = {key: payment[key] for key in payment.keys() - set(_PAYMENT)}
        named = [payment[each] for each in _PAYMENT]
        name = "opprettet"
        opprettet = micros_of(element[name].upper())
        name = "$"
        return Content(
            (
                element["trekkid"],
                int(element["trekkversjon"]),
                int(element["sekvensnummer"]),
                opprettet,
                saksnummer,
                element["trekkpliktig"],
                element["skyldner"],
                status,
                *named,
                _canonical(of_payment),
                _canonical(unknown),
                0,
            ),
            periods,
        )
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        # Not chained: the error may show a value.
        raise UnreadableElementError(f"{name} ({type(error).__name__})") from None


def comparable(content: Content) -> Content:
    """What the topic has, in the form that `content_of_element` gives: its JSON texts rewritten in one way."""
    *first, of_payment, own, _ = content.order
    periods = tuple((*each[:4], _rewritten(each[4])) for each in content.periods)
    return Content((*first, _rewritten(of_payment), _rewritten(own), 0), periods)


def _periode(wire: Mapping[str, Any]) -> Period:
    unknown = {key: wire[key] for key in wire.keys() - _PERIODE}
    sizes: list[int | None] = []
    for name in ("trekkbeloep", "trekkprosent"):
        wrapper = wire.get(name)
        sizes.append(None if wrapper is None else hundredths(Decimal(wrapper[name])))
        if wrapper is not None:
            unknown |= {f"{name}.{key}": each for key, each in wrapper.items() if key != name}
    sluttdato = wire.get("sluttdato")
    start = date.fromisoformat(wire["startdato"]).isoformat()
    slutt = None if sluttdato is None else date.fromisoformat(sluttdato).isoformat()
    return start, slutt, sizes[0], sizes[1], _canonical(unknown)


def _canonical(values: Mapping[str, Any]) -> frozenset[tuple[str, str]] | None:
    return frozenset((name, _text(value)) for name, value in values.items()) if values else None


def _rewritten(pairs: frozenset[tuple[str, str]] | None) -> frozenset[tuple[str, str]] | None:
    """The same with each JSON text in canonical form; a text that is no JSON stays."""
    if pairs is None:
        return None
    rewritten = []
    for name, text in pairs:
        try:
            rewritten.append((name, _text(json.loads(text, parse_float=Decimal))))
        except ValueError:
            rewritten.append((name, text))
    return frozenset(rewritten)


def _text(value: Any) -> str:  # noqa: ANN401 - JSON may be anything
    return json.dumps(value, sort_keys=True, default=str)
