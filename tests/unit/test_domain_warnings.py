"""What is unusual in a version is named, and rejects nothing."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from producer.domain import warnings
from producer.domain.trekkpaalegg import Trekkpaalegg, Trekkstatus, TrekkstoerrelseForPeriode
from producer.domain.warnings import warnings_of
from tests.kit.fakes.source import make_trekkpaalegg
from trekkpaalegg.identifiers import Foedselsnummer, is_valid_kidnummer

PLAIN = make_trekkpaalegg("314159265", Random(1), sekvensnummer=1)
PAYMENT = PLAIN.betalingsinformasjon


def periode(startdato: date, sluttdato: date | None, **ukjente: str) -> TrekkstoerrelseForPeriode:
    return TrekkstoerrelseForPeriode(startdato, sluttdato, Decimal(1), None, ukjente)


JAN, FEB, MAR = date(2026, 1, 1), date(2026, 2, 1), date(2026, 3, 1)


def test_a_version_that_keeps_every_rule_has_no_warning() -> None:
    assert warnings_of(replace(PLAIN, trekkpliktig="314159265")) == (warnings.TREKKPLIKTIG,)
    assert warnings_of(replace(PLAIN, trekkpliktig="974760673")) == ()


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"skyldner": Foedselsnummer("12345678901")}, warnings.SKYLDNER),
        ({"trekkpliktig": "123456789"}, warnings.TREKKPLIKTIG),
        ({"betalingsinformasjon": replace(PAYMENT, betalingsmottaker="ukjent")}, warnings.BETALINGSMOTTAKER),
        ({"betalingsinformasjon": replace(PAYMENT, kidnummer="5²")}, warnings.KIDNUMMER),
        ({"betalingsinformasjon": replace(PAYMENT, kidnummer="")}, warnings.KIDNUMMER),
        ({"betalingsinformasjon": replace(PAYMENT, kontonummer="1")}, warnings.KONTONUMMER),
        ({"trekkstatus": Trekkstatus.UKJENT}, warnings.TREKKSTATUS_UKJENT),
        ({"ukjente_felter": {"a": "1"}}, warnings.UKJENTE_FELTER),
        ({"betalingsinformasjon": replace(PAYMENT, ukjente_felter={"a": "1"})}, warnings.UKJENTE_FELTER),
        ({"trekkstoerrelse_for_periode": (periode(JAN, None, a="1"),)}, warnings.UKJENTE_FELTER),
        ({"trekkstoerrelse_for_periode": (periode(JAN, None), periode(FEB, None))}, warnings.PERIODE_OVERLAP),
        ({"trekkstoerrelse_for_periode": (periode(FEB, MAR), periode(JAN, FEB))}, warnings.PERIODE_OVERLAP),
    ],
)
def test_each_unusual_thing_has_its_name(changes: dict[str, Any], name: str) -> None:
    unusual: Trekkpaalegg = replace(PLAIN, **{"trekkpliktig": "974760673", **changes})
    assert warnings_of(unusual) == (name,)
    assert name in warnings.WARNINGS


def test_periods_that_follow_each_other_do_not_overlap() -> None:
    following = (periode(FEB, None), periode(JAN, date(2026, 1, 31)))
    assert warnings_of(replace(PLAIN, trekkpliktig="974760673", trekkstoerrelse_for_periode=following)) == ()


@pytest.mark.parametrize(
    ("kidnummer", "is_valid"),
    [
        ("0000000018", True),
        ("0000000015", False),
        ("1", False),
        ("0000000019", True),
        ("6-", True),
        ("5²", False),
        ("²5", False),
    ],
)
def test_kid_is_checked_by_either_modulus(kidnummer: str, is_valid: bool) -> None:
    assert is_valid_kidnummer(kidnummer) is is_valid
