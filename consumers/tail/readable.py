"""Events as lines for people or as JSON documents, with national ids masked. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from trekkpaalegg.event import TrekkpaaleggVersjon
from trekkpaalegg.identifiers import MASK, mask_for_display

if TYPE_CHECKING:
    from decimal import Decimal

    from trekkpaalegg.event import TrekkstoerrelseForPeriode

_SHORT_MASK = "***"
_TREKKID_LENGTH_MIN = 9
_FIXED_LENGTH = 39
"""The width of a line's columns, except trekkid and the amounts."""

_SIZE_LENGTH = 30
"""The width reserved for the amounts in a narrow terminal, before trekkid is cut."""


class ReadableEvent(msgspec.Struct, frozen=True):
    """One event: its position in the topic, its CloudEvents headers, and its content."""

    topic: str
    partition: int
    offset: int
    headers: Mapping[str, str]
    event: TrekkpaaleggVersjon


class UndecodableRecord(msgspec.Struct, frozen=True):
    """One message that cannot be decoded: its position in the topic, and the reason."""

    topic: str
    partition: int
    offset: int
    reason: str


def line_of(record: ReadableEvent | UndecodableRecord, width: int | None = None) -> str:
    """One line: trekkpliktig, trekkid, version, status, skyldner (masked), origin, amounts.

    With a `width`, first trekkid and then the end of the line are cut to fit.
    """
    if isinstance(record, UndecodableRecord):
        return _cut(
            f"undecodable {record.topic}/{record.partition}/{record.offset}: {mask_for_display(record.reason)}", width
        )
    event = record.event
    trekkid = mask_for_display(event.trekkid)
    if width is not None:
        trekkid = _cut(trekkid, max(_TREKKID_LENGTH_MIN, width - _FIXED_LENGTH - _SIZE_LENGTH))
    return _cut(
        f"{mask_for_display(event.trekkpliktig):9} {trekkid:{_TREKKID_LENGTH_MIN}} v{event.trekkversjon:<2} "
        f"{event.trekkstatus:9} {_SHORT_MASK} {_origin(record.headers):9} {_size(event)}",
        width,
    )


def document_of(record: ReadableEvent | UndecodableRecord) -> dict[str, Any]:
    """The document that `--json` prints: decimals and dates as text, fields by their names in the schema."""
    place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
    if isinstance(record, UndecodableRecord):
        return {**place, "undecodable": mask_for_display(record.reason)}
    event = record.event
    # Foedselsnummer is a str, which a JSON encoder would write with its digits.
    plain = msgspec.to_builtins(msgspec.structs.replace(event, skyldner=MASK))
    plain["opprettet"] = event.opprettet.isoformat().replace("+00:00", "Z")
    accounts = plain["betalingsinformasjon"]
    unmasked = {name: accounts[name] for name in ("kidnummer", "kontonummer")}
    document = _masked_through(plain)
    document["betalingsinformasjon"] |= unmasked
    headers = {name: mask_for_display(text) for name, text in record.headers.items() if name.startswith("ce_")}
    return {**place, "headers": headers, "event": document}


def _masked_through(value: Any) -> Any:  # noqa: ANN401  # JSON both ways
    match value:
        case str():
            return mask_for_display(value)
        case dict():
            return {mask_for_display(name): _masked_through(each) for name, each in value.items()}
        case list() | tuple():
            return [_masked_through(each) for each in value]
        case _:
            return value


def _origin(headers: Mapping[str, str]) -> str:
    correction = headers.get("ce_correction")
    if correction is not None:
        return mask_for_display(f"correct.{correction}")
    return "late" if headers.get("ce_late") == "true" else mask_for_display(headers.get("ce_origin", "?"))


def _size(event: TrekkpaaleggVersjon) -> str:
    """The amounts of all periods: `2026-02-01: 12 % → 0 % until 2026-06-30`."""
    periods = sorted(event.trekkstoerrelse_for_periode, key=lambda periode: periode.startdato)
    if not periods:
        return "no period"
    last = max((periode.sluttdato for periode in periods if periode.sluttdato is not None), default=None)
    is_open = any(periode.sluttdato is None for periode in periods)
    end = "" if is_open or last is None else f" until {last}"
    return f"{periods[0].startdato}: {' → '.join(_size_of(periode) for periode in periods)}{end}"


def _size_of(periode: TrekkstoerrelseForPeriode) -> str:
    if periode.trekkprosent is not None:
        return f"{_plain(periode.trekkprosent)} %"
    return f"{_plain(periode.trekkbeloep)} kr" if periode.trekkbeloep is not None else "?"


def _plain(number: Decimal) -> str:
    """`5000` instead of `5000.00`; `99.50` is unchanged."""
    return format(number, "f").removesuffix(".00")


def _cut(text: str, width: int | None) -> str:
    return text if width is None or len(text) <= width else f"{text[: width - 1]}…"
