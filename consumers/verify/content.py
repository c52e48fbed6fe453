"""The content of a version in one form for topic, ledger and source, so that it can be compared.

Sums of hashes of this form compare a whole ledger with a topic without keeping either in memory. Orders whose sums
differ are then compared field by field. Nothing here is shared with the code that writes the ledger, which could
contain the error that the proof is to find.

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
    """The content of one version. `order` is as `ORDER_FIELDS`; `opprettet` is in microseconds since 1970."""

    order: tuple[Any, ...]
    periods: tuple[Period, ...]

    def order_number(self) -> int:
        """A hash of everything but the periods."""
        return hash(self.order)

    def periods_number(self) -> int:
        """A hash of the periods with their positions: the sum of `period_number`."""
        trekkid = self.order[0]
        return sum([period_number(trekkid, nummer, each) for nummer, each in enumerate(self.periods, 1)])

    def row_number(self, *, late: bool) -> int:
        """A hash of the row of the history."""
        return hash((self.order, self.periods, late))


Version = tuple[int, int]
"""trekkversjon and correction."""


class PublishedOrder(msgspec.Struct):
    """One order as the topic has it. Of several messages of the same version and correction, the first counts."""

    versions: dict[Version, tuple[Content, bool]] = {}
    """By version, the content and whether it was marked late."""

    def add(self, content: Content, correction: int, *, late: bool) -> None:
        """Add the content of one message."""
        self.versions.setdefault((content.order[1], correction), (content, late))

    def newest(self) -> Content:
        """The newest version with its last correction."""
        return self.versions[max(self.versions)][0]

    def history(self) -> dict[Version, tuple[Content, bool]]:
        """The expected rows of the history: the last correction of each version."""
        last: dict[int, int] = {}
        for version, correction in self.versions:
            last[version] = max(last.get(version, 0), correction)
        return {version: each for version, each in self.versions.items() if last[version[0]] == version[1]}


class UnreadableRowError(ValueError):
    """A row of the ledger contains a value that no version can have; the message names the field."""


class _StoredPeriod(msgspec.Struct):
    startdato: str
    sluttdato: str | None
    trekkbeloep: str | None
    trekkprosent: str | None
    ukjente_felter: dict[str, str]


_STORED_PERIODS = msgspec.json.Decoder(list[_StoredPeriod])
_STORED_FIELDS = msgspec.json.Decoder(dict[str, str])


def period_number(trekkid: str, nummer: int, period: Period) -> int:
    """A hash of one row of the newest version's periods; `nummer` is its position, from 1."""
    return hash((trekkid, nummer, period))


def place_number(trekkversjon: int, correction: int, *, replaced: bool) -> int:
    """A hash of the table that a version is in: the history, or what corrections replaced."""
    return hash((trekkversjon, correction, replaced, "place"))


def content_of_fields(fields: dict[str, Any], correction: int) -> Content:
    """The content of an event's value, from its plain fields."""
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
    """The order in a row of `trekkpaalegg` or of the history. Raises `UnreadableRowError`."""
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
    """The content of a row of the history or of what was replaced, and whether it was marked late.

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
    """trekkid, nummer and period of a row of `trekkstoerrelse_for_periode`. Raises `UnreadableRowError`."""
    trekkid, nummer, startdato, sluttdato, beloep, prosent, own = row
    period = (_iso(startdato), _iso(sluttdato), hundredths(beloep), hundredths(prosent), _stored_pairs(own))
    return trekkid, nummer, period  # type: ignore[return-value] # a start is never null


def differing(expected: tuple[Any, ...], found: tuple[Any, ...], names: tuple[str, ...]) -> tuple[str, ...]:
    """The names of the fields that are not equal."""
    return tuple([name for name, one, other in zip(names, expected, found, strict=True) if one != other])


def differing_periods(expected: tuple[Period, ...], found: tuple[Period, ...]) -> tuple[str, ...]:
    """As `differing`, for lists of periods: `trekkstoerrelse_for_periode[1].trekkbeloep`, numbered from 1."""
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
    """An amount or a percentage in hundredths. Raises `UnreadableRowError` if it has more than two decimals."""
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
    """Microseconds since 1970; UTC if no time zone is given. Raises `UnreadableRowError` for an invalid text."""
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
    """The source sent an element that is not a version as we know it; names the field, never its value."""


def content_of_element(element: Mapping[str, Any]) -> Content:
    """The content of an element of the API, with fractions as `Decimal`. Raises `UnreadableElementError`."""
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


def normalised(content: Content) -> Content:
    """Content from the topic in the form that `content_of_element` returns: its JSON texts in canonical form."""
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
    """The pairs with each JSON text in canonical form; other texts are unchanged."""
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
