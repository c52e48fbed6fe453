"""Properties of parsing that hold for every response: nothing crashes a page, and both parsers agree."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from producer.domain.trekkpaalegg import Rejected, RejectionReason, Trekkpaalegg
from producer.domain.warnings import WARNINGS, warnings_of
from producer.source.parse.page import read_elements, read_trekkpaalegg
from producer.source.parse.tolerant import read_tolerantly
from producer.source.polling import page_of
from trekkpaalegg.errors import RetryableError

TREKKPLIKTIG = "312345678"
OK = {
    "trekkid": "ok",
    "trekkversjon": 1,
    "sekvensnummer": 1,
    "opprettet": "2026-01-01T00:00:00Z",
    "trekkpliktig": TREKKPLIKTIG,
    "skyldner": "12345678901",
    "trekkstatus": "aktiv",
    "trekkstoerrelseForPeriode": [],
    "betalingsinformasjon": {"betalingsmottaker": "1", "kidnummer": "2", "kontonummer": "3"},
}
REASONS = set(RejectionReason)
digits = st.text("0123456789", min_size=1, max_size=12)
json_scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**18, max_value=10**30)
    | st.floats()
    | st.text(st.characters())  # with half surrogate pairs and control characters
    | digits
    | st.sampled_from(["2026-01-01", "20260101", "2026-01-01T00:00:00Z", "aktiv", "12345678901"])
)
json_values = st.recursive(
    json_scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | digits, inner, max_size=4),
    max_leaves=12,
)


def sizes() -> st.SearchStrategy[Any]:
    number = st.integers(-1, 10**13) | st.decimals(-1, 101, places=2).map(float) | json_scalars
    return st.fixed_dictionaries(
        {},
        optional={
            "trekkbeloep": st.fixed_dictionaries({"trekkbeloep": number}) | json_values,
            "trekkprosent": st.fixed_dictionaries({"trekkprosent": number}) | json_values,
            "sluttdato": st.dates().map(str) | json_values,
        },
    )


periods = st.lists(
    st.builds(lambda startdato, size: {"startdato": startdato, **size}, st.dates().map(str) | json_scalars, sizes()),
    max_size=3,
)
near_elements = st.builds(
    lambda changes, dropped: {name: value for name, value in {**OK, **changes}.items() if name not in dropped},
    st.dictionaries(st.sampled_from(sorted(OK)), json_values, max_size=3)
    | periods.map(lambda periods: {"trekkstoerrelseForPeriode": periods})
    | st.dictionaries(st.text(max_size=5), json_values, max_size=2),
    st.sets(st.sampled_from(sorted(OK)), max_size=1),
)


def text_of(value: Any) -> bytes:
    return json.dumps(value).encode()


@given(st.lists(json_values | near_elements, max_size=4))
def test_no_json_value_as_an_element_crashes_a_page_or_harms_its_neighbours(values: list[Any]) -> None:
    body = text_of([*values, OK, *values])
    elements = read_elements(body, TREKKPLIKTIG)
    assert len(elements) == 2 * len(values) + 1
    neighbour = elements[len(values)]
    assert isinstance(neighbour, Trekkpaalegg)
    assert neighbour.trekkid == "ok"
    for element in elements:
        if isinstance(element, Rejected):
            assert element.reason in REASONS
            assert element.field_path
            assert element.trekkid is None or 1 <= len(element.trekkid) <= 1000
        else:
            assert set(warnings_of(element)) <= set(WARNINGS)


@given(json_values | st.lists(near_elements, max_size=3), st.integers(0, 2**63), st.integers(1, 3))
def test_any_json_value_as_a_page_is_read_or_tried_again(value: Any, cursor: int, maks_antall: int) -> None:
    try:
        elements = read_elements(text_of(value), TREKKPLIKTIG)
        page = page_of(elements, cursor, maks_antall)
    except RetryableError:
        return
    assert isinstance(value, list)
    assert len(page.elements) == len(value)
    assert page.next_cursor is None or page.next_cursor > cursor


@given(st.binary(max_size=60) | st.binary(max_size=60).map(lambda garbage: b"[" + text_of(OK) + b"," + garbage))
def test_any_bytes_are_read_or_tried_again(body: bytes) -> None:
    for read in (read_elements, read_trekkpaalegg):
        with suppress(RetryableError):
            read(body, TREKKPLIKTIG)


@given(st.integers(1, len(text_of([OK, OK])) - 1))
def test_a_page_that_is_cut_off_anywhere_is_tried_again(length: int) -> None:
    try:
        read_elements(text_of([OK, OK])[:length], TREKKPLIKTIG)
    except RetryableError:
        return
    raise AssertionError("a cut off page was taken for a whole one")


@given(near_elements)
def test_the_fast_and_the_tolerant_parser_agree(value: dict[str, Any]) -> None:
    raw = text_of(value)
    [quick, _] = read_elements(b"[%s,%s]" % (raw, text_of(OK)), TREKKPLIKTIG)
    tolerant = read_tolerantly(raw, TREKKPLIKTIG)
    assert quick == tolerant
    assert type(quick) is type(tolerant)


@given(near_elements)
def test_a_rejection_does_not_quote_the_skyldner(value: dict[str, Any]) -> None:
    element = read_tolerantly(text_of({**value, "skyldner": "98765432109"}), TREKKPLIKTIG)
    if isinstance(element, Rejected):
        shown = f"{element!r} {element.field_path} {element.detail} {element.trekkid}"
        assert "98765432109" not in shown
