"""One event in, a line for people or a JSON document out, with no national id in either. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from trekkpaalegg.event import TrekkpaaleggVersjon
from trekkpaalegg.identifiers import MASK, mask_national_ids

if TYPE_CHECKING:
    from decimal import Decimal

    from trekkpaalegg.event import TrekkstoerrelseForPeriode

_SHORT_MASK = "***"
_TREKKID_LENGTH_MIN = 9
_FIXED_LENGTH = 39
"""What the columns of a line take beside trekkid and what is withheld."""

_SIZE_LENGTH = 30
"""What is kept of a narrow line for what is withheld, before trekkid is cut."""


class Seen(msgspec.Struct, frozen=True):
    """One event as it was read: where it stands, its CloudEvents headers, and what it says."""

    topic: str
    partition: int
    offset: int
    headers: Mapping[str, str]
    event: TrekkpaaleggVersjon


class Undecodable(msgspec.Struct, frozen=True):
    """One message that holds no event that we can read: where it stands, and why."""

    topic: str
    partition: int
    offset: int
    reason: str


def masked(text: str) -> str:
    """The text with national ids masked, and without control characters, which a terminal would act upon."""
    return "".join(each if each.isprintable() else "�" for each in mask_national_ids(text))


def line_of(seen: Seen | Undecodable, width: int | None = None) -> str:
    """One line: trekkpliktig, trekkid, version, status, skyldner (masked), how it came to be, what is withheld.

    With a `width`, trekkid is cut to fit, then the end; without, nothing is.
    """
    if isinstance(seen, Undecodable):
        return _cut(f"undecodable {seen.topic}/{seen.partition}/{seen.offset}: {masked(seen.reason)}", width)
    event = seen.event
    trekkid = masked(event.trekkid)
    if width is not None:
        trekkid = _cut(trekkid, max(_TREKKID_LENGTH_MIN, width - _FIXED_LENGTH - _SIZE_LENGTH))
    return _cut(
        f"{masked(event.trekkpliktig):9} {trekkid:{_TREKKID_LENGTH_MIN}} v{event.trekkversjon:<2} "
        f"{event.trekkstatus:9} {_SHORT_MASK} {_origin(seen.headers):9} {_size(event)}",
        width,
    )


def document_of(seen: Seen | Undecodable) -> dict[str, Any]:
    """What `--json` prints of it: decimals and dates as text, every field by its name in the schema."""
    place = {"topic": seen.topic, "partition": seen.partition, "offset": seen.offset}
    if isinstance(seen, Undecodable):
        return {**place, "undecodable": masked(seen.reason)}
    event = seen.event
    # Its own type would show its digits here: a JSON encoder takes a str for what it holds.
    plain = msgspec.to_builtins(msgspec.structs.replace(event, skyldner=MASK))
    plain["opprettet"] = event.opprettet.isoformat().replace("+00:00", "Z")
    accounts = plain["betalingsinformasjon"]
    kept = {name: accounts[name] for name in ("kidnummer", "kontonummer")}
    document = _masked_through(plain)
    document["betalingsinformasjon"] |= kept
    headers = {name: masked(text) for name, text in seen.headers.items() if name.startswith("ce_")}
    return {**place, "headers": headers, "event": document}


def _masked_through(value: Any) -> Any:  # noqa: ANN401  # JSON both ways
    match value:
        case str():
            return masked(value)
        case dict():
            return {masked(name): _masked_through(each) for name, each in value.items()}
        case list() | tuple():
            return [_masked_through(each) for each in value]
        case _:
            return value


def _origin(headers: Mapping[str, str]) -> str:
    correction = headers.get("ce_correction")
    if correction is not None:
        return masked(f"correct.{correction}")
    return "late" if headers.get("ce_late") == "true" else masked(headers.get("ce_origin", "?"))


def _size(event: TrekkpaaleggVersjon) -> str:
    """What is withheld, over all periods: `2026-02-01: 12 % → 0 % until 2026-06-30`."""
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
    """5000 and 12.5 rather than 5000.00 and 12.50; 99.50 stays when it is no whole number."""
    return format(number, "f").removesuffix(".00")


def _cut(text: str, width: int | None) -> str:
    return text if width is None or len(text) <= width else f"{text[: width - 1]}…"
