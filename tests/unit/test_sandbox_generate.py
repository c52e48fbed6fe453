"""The generator of synthetic employers and orders."""

from __future__ import annotations

import itertools
import json
from random import Random

import pytest

from sandbox.skatteetaten.examples import official_examples
from sandbox.skatteetaten.generate import generate_versions, trekkpliktige
from sandbox.skatteetaten.wire import EVERY_SHAPE, Shape, restyled, shaped
from trekkpaalegg.identifiers import (
    is_valid_foedselsnummer,
    is_valid_kidnummer,
    is_valid_kontonummer,
    is_valid_organisasjonsnummer,
)


def test_the_same_seed_makes_the_same_bytes_and_another_seed_others():
    employers = trekkpliktige(1, 3)
    one, again, other = (list(generate_versions(seed, employers, 50, shape=EVERY_SHAPE)) for seed in (7, 7, 8))
    assert [version.body for version in one] == [version.body for version in again]
    assert [version.body for version in one] != [version.body for version in other]


def test_every_number_has_valid_check_digits_and_no_person_is_real():
    employers = trekkpliktige(1, 20)
    assert len(set(employers)) == 20
    assert all(is_valid_organisasjonsnummer(employer) for employer in employers)
    for version in generate_versions(1, employers, 300):
        wire = json.loads(version.body)
        payment = wire["betalingsinformasjon"]
        assert is_valid_foedselsnummer(wire["skyldner"])
        assert 81 <= int(wire["skyldner"][2:4]) <= 92
        assert is_valid_kidnummer(payment["kidnummer"])
        assert is_valid_kontonummer(payment["kontonummer"])
        assert is_valid_organisasjonsnummer(payment["betalingsmottaker"])


def test_versions_of_an_order_rise_by_one_and_sekvensnummer_rises_with_gaps():
    newest: dict[str, int] = {}
    numbers = []
    for version in generate_versions(3, trekkpliktige(3, 4), 2000, versions_max=5):
        assert version.trekkversjon == newest.get(version.trekkid, 0) + 1
        newest[version.trekkid] = version.trekkversjon
        numbers.append(version.sekvensnummer)
        wire = json.loads(version.body)
        assert (wire["trekkid"], wire["sekvensnummer"]) == (version.trekkid, version.sekvensnummer)
    assert len(newest) == 2000
    assert numbers == sorted(set(numbers))
    steps = {after - before for before, after in itertools.pairwise(numbers)}
    assert steps == {1, 2, 3, 4}


def test_orders_show_percent_amount_pause_and_end():
    kinds = set()
    for version in generate_versions(2, trekkpliktige(2, 2), 500):
        wire = json.loads(version.body)
        kinds.add(wire["trekkstatus"])
        for period in wire["trekkstoerrelseForPeriode"]:
            assert ("trekkbeloep" in period) != ("trekkprosent" in period)
            assert period["startdato"] <= period.get("sluttdato", "9999-12-31")
            kinds.add("amount" if "trekkbeloep" in period else "percent")
            if period.get("trekkprosent") == {"trekkprosent": 0}:
                kinds.add("pause")
    assert kinds == {"aktiv", "avsluttet", "amount", "percent", "pause"}


def test_orders_without_an_employer_are_refused():
    with pytest.raises(ValueError, match="trekkpliktig"):
        next(generate_versions(1, [], 1))


def test_a_shape_changes_the_writing_and_not_the_content():
    plain = official_examples()[3]
    written = shaped(plain, Random(1), Shape(1.0, 1.0, 1.0))
    first = written["trekkstoerrelseForPeriode"][0]
    assert (first["startdato"], first["sluttdato"]) == ("20250510", "20250809")
    assert first["trekkgrunnlag"]
    assert written["prioritet"] == 3
    assert "iban" in written["betalingsinformasjon"]
    assert shaped(plain, Random(1), Shape()) == plain


def test_restyling_turns_field_order_dates_and_numbers_around():
    plain = official_examples()[1]
    other = restyled(plain)
    assert list(other) == list(reversed(plain))
    assert json.dumps(other["trekkstoerrelseForPeriode"]) == (
        '[{"startdato": "20250810", "trekkbeloep": {"trekkbeloep": 5000.0}}]'
    )


def test_there_are_nineteen_official_examples_of_ten_orders():
    examples = official_examples()
    assert len(examples) == 19
    assert len({each["trekkid"] for each in examples}) == 10
    assert [each["sekvensnummer"] for each in examples] == sorted(each["sekvensnummer"] for each in examples)
