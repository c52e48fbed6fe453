"""The hash of a version's content: equal for every way of writing it, different if any known field changes."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from random import Random

import msgspec
import pytest

from producer.domain.content import CONTENT_HASH_BYTES, CONTENT_HASH_VERSION, METHODS, content_hash
from producer.domain.trekkpaalegg import Trekkstatus, TrekkstoerrelseForPeriode
from tests.kit.fakes.source import make_trekkpaalegg
from trekkpaalegg.identifiers import Foedselsnummer

VERSION = make_trekkpaalegg("311111111", Random(1), sekvensnummer=1)
PERIODE = TrekkstoerrelseForPeriode(date(2026, 1, 1), None, Decimal(5000), None)


def changed(**changes):
    return content_hash(msgspec.structs.replace(VERSION, **changes))


def with_periods(*periods):
    return changed(trekkstoerrelse_for_periode=periods)


def with_payee(**changes):
    return changed(betalingsinformasjon=msgspec.structs.replace(VERSION.betalingsinformasjon, **changes))


def test_method_is_the_one_whose_number_it_bears():
    """Changed together or not at all: a hash that changes under the same number quarantines everything published."""
    fixed = msgspec.structs.replace(
        VERSION,
        trekkid="A",
        skyldner=Foedselsnummer("10898312375"),
        saksnummer=None,
        opprettet=1_767_600_000_000_001,
        trekkstoerrelse_for_periode=(PERIODE,),
    )
    payee = msgspec.structs.replace(fixed.betalingsinformasjon, kidnummer="2345676", kontonummer="70213997155")
    fixed = msgspec.structs.replace(fixed, betalingsinformasjon=payee)
    assert (CONTENT_HASH_VERSION, content_hash(fixed).hex()) == (1, "e50a9ecc60b3ba31")


def test_hash_is_short():
    assert len(content_hash(VERSION)) == CONTENT_HASH_BYTES


@pytest.mark.parametrize("written", ["5000", "5000.0", "5000.00", "5E+3", "5.000E3"])
def test_amounts_written_differently_are_the_same(written):
    same = msgspec.structs.replace(PERIODE, trekkbeloep=Decimal(written))
    assert with_periods(same) == with_periods(PERIODE)


def test_position_in_the_source_unknown_fields_and_raw_text_are_not_content():
    assert changed(sekvensnummer=99) == content_hash(VERSION)
    assert changed(ukjente_felter={"nytt": "1"}) == content_hash(VERSION)
    assert changed(raw=b"{}") == content_hash(VERSION)
    assert with_payee(ukjente_felter={"nytt": "1"}) == content_hash(VERSION)
    with_unknown = msgspec.structs.replace(PERIODE, ukjente_felter={"nytt": "1"})
    assert with_periods(with_unknown) == with_periods(PERIODE)


def test_every_known_field_is_content():
    hashes = [
        content_hash(VERSION),
        changed(trekkid="other"),
        changed(trekkversjon=2),
        changed(opprettet=VERSION.opprettet + 1),
        changed(saksnummer=None),
        changed(saksnummer=""),
        changed(trekkpliktig="322222222"),
        changed(skyldner=Foedselsnummer("10898312376")),
        changed(trekkstatus=Trekkstatus.AVSLUTTET),
        with_periods(),
        with_periods(PERIODE),
        with_periods(PERIODE, PERIODE),
        with_periods(msgspec.structs.replace(PERIODE, startdato=date(2026, 1, 2))),
        with_periods(msgspec.structs.replace(PERIODE, sluttdato=date(2026, 1, 2))),
        with_periods(msgspec.structs.replace(PERIODE, trekkbeloep=Decimal("5000.01"))),
        with_periods(msgspec.structs.replace(PERIODE, trekkbeloep=None, trekkprosent=Decimal(5000))),
        with_periods(msgspec.structs.replace(PERIODE, trekkbeloep=Decimal(0))),
        with_payee(betalingsmottaker="322222222"),
        with_payee(kidnummer="00"),
        with_payee(kontonummer="70213997155"),
    ]
    assert len(set(hashes)) == len(hashes)


def test_order_of_periods_is_content():
    later = msgspec.structs.replace(PERIODE, startdato=date(2027, 1, 1))
    assert with_periods(PERIODE, later) != with_periods(later, PERIODE)


def test_unknown_statuses_differ_by_their_text():
    one, two = (
        changed(trekkstatus=Trekkstatus.UKJENT, ukjente_felter={"trekkstatus": text}) for text in ('"pauset"', '"x"')
    )
    assert one != two


def test_hash_as_if_the_status_were_another():
    ended = msgspec.structs.replace(VERSION, trekkstatus=Trekkstatus.AVSLUTTET)
    assert content_hash(ended, Trekkstatus.AKTIV) == content_hash(VERSION)
    assert content_hash(ended) != content_hash(VERSION)


def test_hash_by_another_method_is_made_by_its_number(monkeypatch):
    monkeypatch.setitem(METHODS, 2, lambda trekkpaalegg, status: f"{trekkpaalegg.trekkid} {status.value}".encode())
    assert content_hash(VERSION, method=2) == f"{VERSION.trekkid} aktiv".encode()
    assert content_hash(VERSION, Trekkstatus.AVSLUTTET, method=2) == f"{VERSION.trekkid} avsluttet".encode()
    assert content_hash(VERSION, method=1) == content_hash(VERSION)


def test_new_hashes_are_made_by_a_method_that_is_kept():
    assert CONTENT_HASH_VERSION in METHODS
    assert 0 not in METHODS  # it says that no hash is known
