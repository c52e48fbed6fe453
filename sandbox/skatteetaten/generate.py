"""Synthetic employers, people and orders from a seed.

Every check digit holds. Persons are marked synthetic by month + 80 (Skatteetaten's Tenor), organisations by a first
digit 3, which Brønnøysundregistrene gives to test data only.

The same seed and numbers give the same versions, byte for byte. Nothing is kept but a window of orders, so that a
million can stream by.
"""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any

from sandbox.skatteetaten.order_book import Version
from sandbox.skatteetaten.wire import PLAIN, Shape, render, shaped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sandbox.skatteetaten.state import Skatteetaten


_K1 = (3, 7, 6, 1, 8, 9, 4, 5, 2)
_K2 = (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)
_ORGANISASJONSNUMMER = (3, 2, 7, 6, 5, 4, 3, 2)
_LUHN_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
_NO_DIGIT = 10
_SYNTHETIC_MONTH = 80
_D_NUMBER_DAY = 40
_D_NUMBER_RATE = 0.1


def _modulus_11(digits: str, weights: tuple[int, ...]) -> int:
    return -sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=True)) % 11


def synthetic_skyldner(random: Random) -> str:
    """A synthetic fødselsnummer, or in one case of ten a synthetic D-number: eleven digits, both check digits valid."""
    while True:
        day = random.randint(1, 28) + (_D_NUMBER_DAY if random.random() < _D_NUMBER_RATE else 0)
        month = random.randint(1, 12) + _SYNTHETIC_MONTH
        digits = f"{day:02}{month:02}{random.randint(40, 99):02}{random.randint(0, 499):03}"
        k1 = _modulus_11(digits, _K1)
        if k1 == _NO_DIGIT:
            continue
        k2 = _modulus_11(f"{digits}{k1}", _K2)
        if k2 != _NO_DIGIT:
            return f"{digits}{k1}{k2}"


def synthetic_organisasjonsnummer(random: Random) -> str:
    """Nine digits, the first a 3, with a valid check digit."""
    while True:
        digits = f"3{random.randrange(10**7):07}"
        check = _modulus_11(digits, _ORGANISASJONSNUMMER)
        if check != _NO_DIGIT:
            return f"{digits}{check}"


def synthetic_kontonummer(random: Random) -> str:
    """Eleven digits with a valid check digit."""
    while True:
        digits = f"{random.randrange(10**9, 10**10):010}"
        check = _modulus_11(digits, _K2)
        if check != _NO_DIGIT:
            return f"{digits}{check}"


def synthetic_kidnummer(number: int) -> str:
    """The KID of a running number: that number with its modulus 10 check digit, at least ten digits."""
    digits = f"{number:09}"
    total = 0
    for place, digit in enumerate(reversed(digits)):
        total += int(digit) if place % 2 else _LUHN_DOUBLED[int(digit)]
    return f"{digits}{-total % 10}"


def synthetic_uuid(random: Random) -> str:
    """A version 4 UUID."""
    digits = f"{random.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


Wire = dict[str, Any]

BETALINGSMOTTAKER = "971648198"
_START = datetime(2026, 1, 5, 8, tzinfo=UTC)
_SPAN_SECONDS = 300 * 86400
_WINDOW_ORDERS = 512
_SKYLDNER_POOL = 4096
_KONTONUMMER_POOL = 16
_WHOLE_MONTHS = 27
_PERCENT_RATE = 0.5
_SEVERAL_PERIODS_RATE = 0.25
_OERE_RATE = 0.1


class OrderGenerator:
    """Invents orders and their changes. One random generator drives it, so a seed repeats everything."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._skyldner: list[str] = []
        self._kontonummer = [synthetic_kontonummer(random) for _ in range(_KONTONUMMER_POOL)]
        self._orders = 0

    def new_order(self, trekkpliktig: str, opprettet: datetime) -> Wire:
        """Version 1 of a new order, in wire names and with Python values; sekvensnummer is 0, to be given."""
        random = self._random
        self._orders += 1
        return {
            "trekkid": synthetic_uuid(random),
            "trekkversjon": 1,
            "sekvensnummer": 0,
            "opprettet": wire_instant(opprettet),
            "saksnummer": f"TREKK/{opprettet.year}/{self._orders}",
            "trekkpliktig": trekkpliktig,
            "skyldner": self._some_skyldner(),
            "trekkstatus": "aktiv",
            "trekkstoerrelseForPeriode": self._new_periods(opprettet.date() + timedelta(days=1)),
            "betalingsinformasjon": {
                "betalingsmottaker": BETALINGSMOTTAKER,
                "kidnummer": synthetic_kidnummer(self._orders),
                "kontonummer": random.choice(self._kontonummer),
            },
        }

    def next_version(self, order: Wire, opprettet: datetime) -> Wire:
        """The version after `order`: another size, a pause, an end, or a running again after an end."""
        day = opprettet.date() + timedelta(days=1)
        status, periods = "aktiv", [dict(period) for period in order["trekkstoerrelseForPeriode"]]
        running = [period for period in periods if _wire_date(period["startdato"]) < day]
        if running:
            running[-1]["sluttdato"] = (day - timedelta(days=1)).isoformat()
        choice = self._random.random()
        if choice < 0.15:  # noqa: PLR2004  # shares of kinds of change, read top to bottom
            status = "avsluttet"
        elif choice < 0.3:  # noqa: PLR2004  # as above
            running += [{"startdato": day.isoformat(), "trekkprosent": {"trekkprosent": 0}}]
        else:
            running += self._new_periods(day)
        return {
            **order,
            "trekkversjon": order["trekkversjon"] + 1,
            "opprettet": wire_instant(opprettet),
            "trekkstatus": status,
            "trekkstoerrelseForPeriode": running,
        }

    def _some_skyldner(self) -> str:
        if len(self._skyldner) < _SKYLDNER_POOL:
            self._skyldner.append(synthetic_skyldner(self._random))
            return self._skyldner[-1]
        return self._random.choice(self._skyldner)

    def _new_periods(self, first_day: date) -> list[Wire]:
        if self._random.random() >= _SEVERAL_PERIODS_RATE:
            return [{"startdato": first_day.isoformat(), **self._size()}]
        periods, day = [], first_day
        for _ in range(self._random.randint(1, 3)):
            last = day + timedelta(days=self._random.randint(_WHOLE_MONTHS, 3 * _WHOLE_MONTHS))
            periods.append({"startdato": day.isoformat(), "sluttdato": last.isoformat(), **self._size()})
            day = last + timedelta(days=1)
        return [*periods, {"startdato": day.isoformat(), **self._size()}]

    def _size(self) -> Wire:
        random = self._random
        if random.random() < _PERCENT_RATE:
            return {"trekkprosent": {"trekkprosent": random.randint(1, 45)}}
        oere = random.randint(1, 99) / 100 if random.random() < _OERE_RATE else 0
        return {"trekkbeloep": {"trekkbeloep": random.randint(5, 150) * 100 + oere}}


def wire_instant(instant: datetime) -> str:
    """ISO 8601 in UTC with `Z`, with milliseconds."""
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _wire_date(text: str) -> date:
    return date.fromisoformat(text)


def trekkpliktige(seed: int, count: int) -> list[str]:
    """`count` different synthetic organisation numbers; a longer list of the same seed begins with the shorter one."""
    random, found = Random(f"trekkpliktige {seed}"), dict[str, None]()
    while len(found) < count:
        found[synthetic_organisasjonsnummer(random)] = None
    return list(found)


def generate_versions(
    seed: int,
    employers: Sequence[str],
    orders: int,
    *,
    versions_max: int = 4,
    first_sekvensnummer: int = 1000,
    gap_max: int = 3,
    shape: Shape = PLAIN,
) -> Iterator[Version]:
    """Versions of `orders` orders spread evenly over `employers`, in rising sekvensnummer.

    Each order gets 1 to `versions_max` versions, in order, those of different orders mixed. Up to `gap_max` numbers are
    skipped between two. `shape` says how often a
    version is written in an unusual but legal way. The bytes of a version are final.
    ValueError if there are orders but no employers.
    """
    if not employers and orders:
        raise ValueError("orders need at least one trekkpliktig")
    random = Random(f"versions {seed}")
    generator = OrderGenerator(random)
    sekvensnummer, opprettet = first_sekvensnummer, _START
    step_seconds_max = min(4 * _SPAN_SECONDS // max(1, orders * (versions_max + 1)), 2 * 86400)
    employer_cycle = itertools.cycle(employers)
    for window_start in range(0, orders, _WINDOW_ORDERS):
        remaining = [
            (next(employer_cycle), random.randint(1, versions_max))
            for _ in range(min(_WINDOW_ORDERS, orders - window_start))
        ]
        turns = [place for place, (_, versions) in enumerate(remaining) for _ in range(versions)]
        if versions_max > 1:
            random.shuffle(turns)
        newest: dict[int, Wire] = {}
        for place in turns:
            trekkpliktig = remaining[place][0]
            if place in newest:
                wire = generator.next_version(newest[place], opprettet)
            else:
                wire = generator.new_order(trekkpliktig, opprettet)
            wire["sekvensnummer"] = sekvensnummer
            if versions_max > 1:
                newest[place] = wire
            body = render(shaped(wire, random, shape))
            yield Version(trekkpliktig, wire["trekkid"], wire["trekkversjon"], sekvensnummer, body)
            sekvensnummer += random.randint(1, 1 + gap_max)
            opprettet += timedelta(seconds=random.randint(0, step_seconds_max))


_NEW_ORDER_RATE = 0.25
_TWICE_RATE = 0.2
"""How often an order changes twice at once, so that the newer version alone is in the list."""


class Traffic:
    """The new orders and new versions of an ordinary day, for some employers, by chance from `random`."""

    def __init__(self, skatteetaten: Skatteetaten, employers: Sequence[str], random: Random) -> None:
        self._skatteetaten = skatteetaten
        self._employers = frozenset(employers)
        self._random = random

    def step(self) -> None:
        """One new order, or one or two new versions of an order."""
        random, state = self._random, self._skatteetaten
        with state.lock:
            orders = [
                each.trekkid for each in state.book.newest_of_all() if each.owner in self._employers and each.trekkid
            ]
            if not orders or random.random() < _NEW_ORDER_RATE:
                state.create(random.choice(sorted(self._employers)))
                return
            trekkid = random.choice(orders)
            for _ in range(2 if random.random() < _TWICE_RATE else 1):
                state.change(trekkid)
