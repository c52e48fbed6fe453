"""Observations are decoded as they were handed over, or not at all: a home skips nothing and mistakes nothing."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.domain.observation import Known, Observation, Question, order_key
from producer.domain.trekkpaalegg import Origin, Rejected, RejectionReason, Trekkpaalegg
from producer.encode.observation import (
    HEADER,
    RAW_BYTES_MAX,
    decode,
    encode_known,
    encode_observation,
    encode_question,
    record_key,
)
from producer.source.parse.tolerant import read_tolerantly
from trekkpaalegg.errors import FatalError

ONE = "311111111"
SKYLDNER = "12345678901"
TREKK = {
    "trekkid": "ordre-æ/1",
    "trekkversjon": 3,
    "sekvensnummer": 4_000_000_000,
    "opprettet": "2026-01-01T00:00:00Z",
    "trekkpliktig": "314150260",
    "skyldner": SKYLDNER,
    "trekkstatus": "aktiv",
    "trekkstoerrelseForPeriode": [],
    "betalingsinformasjon": {"betalingsmottaker": "971648198", "kidnummer": "1234567", "kontonummer": "76940512057"},
}


def element(**fields):
    found = read_tolerantly(json.dumps(TREKK | fields).encode(), ONE)
    assert isinstance(found, Trekkpaalegg)
    return found


def observation(of, *, origin=Origin.POLL, requests=()):
    return Observation(order_key(of), ONE, origin, of, requests=requests)


def decoded(key, value, headers):
    return decode(key, value, headers, read_tolerantly)


def round_trip(before):
    return decoded(record_key(before), *encode_observation(before))


@given(st.lists(st.text(min_size=1, max_size=40).filter(str.isprintable), max_size=5))
def test_orders_that_a_list_shows_first_survive_a_round_trip(trekkider):
    before = Known(ONE, tuple(each.encode() for each in trekkider))
    assert decoded(b"any", *encode_known(before)) == before


@given(
    origin=st.sampled_from(Origin),
    requests=st.lists(st.text(max_size=200), max_size=3).map(tuple),
    unknown=st.text(max_size=20),
)
def test_a_version_survives_a_round_trip_with_all_that_was_sent(origin, requests, unknown):
    before = observation(element(nytt=unknown), origin=origin, requests=requests)
    assert round_trip(before) == before


def test_value_is_the_element_as_it_was_sent_and_the_header_holds_no_national_id():
    of = element()
    value, headers = encode_observation(observation(of))
    assert value == of.raw
    assert SKYLDNER.encode() not in headers[HEADER]


rejected = st.builds(
    Rejected,
    trekkpliktig=st.just(ONE),
    raw=st.binary(max_size=50),
    raw_hash=st.binary(max_size=16),
    reason=st.sampled_from(RejectionReason),
    field_path=st.text(),
    detail=st.text(),
    trekkid=st.none() | st.text(),
    trekkversjon=st.none() | st.integers(1, 2**63 - 1),
    sekvensnummer=st.none() | st.integers(1, 2**63 - 1),
)


@given(of=rejected)
def test_a_rejected_element_survives_a_round_trip(of):
    assert round_trip(observation(of)) == observation(of)


def test_order_that_the_list_lacks_survives_a_round_trip():
    absent = Observation(b"A", ONE, Origin.RECONCILE, requests=("r",))
    assert encode_observation(absent)[0] is None
    assert round_trip(absent) == absent


def test_a_version_that_does_not_fit_goes_by_its_number():
    of = element(nytt="x" * RAW_BYTES_MAX)
    value, _ = encode_observation(observation(of))
    assert value is None
    assert round_trip(observation(of)) == Observation(order_key(of), ONE, Origin.POLL, version=3)


def test_a_version_without_raw_bytes_goes_by_its_number():
    of = msgspec.structs.replace(element(), raw=b"")
    assert round_trip(observation(of)) == Observation(order_key(of), ONE, Origin.POLL, version=3)


def test_raw_bytes_of_a_rejected_element_are_cut_off():
    of = read_tolerantly(b"[" + b"9" * RAW_BYTES_MAX, ONE)
    expected = msgspec.structs.replace(of, raw=of.raw[:RAW_BYTES_MAX])
    assert round_trip(observation(of)) == observation(expected)


def test_the_largest_record_is_one_that_kafka_takes_by_default():
    """1 MB is librdkafka's `message.max.bytes`; a topic's is a little more."""
    requests = tuple(f"{number:03}" + "€" * 197 for number in range(32))
    longest = read_tolerantly(
        json.dumps(TREKK | {"trekkid": "€" * 1000, "opprettet": "x" * RAW_BYTES_MAX}).encode(), ONE
    )
    before = observation(longest, requests=requests)
    value, headers = encode_observation(before)
    assert isinstance(longest, Rejected)
    assert longest.trekkid is not None
    assert len(value) == RAW_BYTES_MAX
    assert len(before.key) + len(value) + sum(map(len, headers.values())) < 1_000_000 - 1000


def test_a_question_survives_a_round_trip():
    question = Question(ONE, "request-æ")
    assert decoded(b"any key", *encode_question(question)) == question


def header(**fields):
    return {HEADER: json.dumps({"v": 1, "for": ONE, "origin": "poll"} | fields).encode()}


def test_unknown_fields_and_headers_are_skipped():
    """A newer program may add some."""
    assert decoded(b"A", None, {"traceparent": b"x", **header(seen_by={"a": [1]})}) == Observation(
        b"A", ONE, Origin.POLL
    )


REJECTION = {"reason": "not_an_object", "field_path": "$", "detail": "", "raw_hash": "00"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {HEADER: b""},
        {HEADER: b"\xff"},
        {HEADER: b"[]"},
        {HEADER: b'{"v":1}'},
        {HEADER: b'{"v":1,"for":"311111111"}'},
        header(v=2),
        header(origin="invented"),
        header(requests="r"),
        header(version="3"),
        header(rejected={}),
        header(rejected=REJECTION | {"reason": "invented"}),
        header(rejected=REJECTION | {"raw_hash": "xy"}),
    ],
)
def test_what_cannot_be_understood_is_fatal_and_is_not_repeated(headers):
    with pytest.raises(FatalError, match="observations topic cannot be understood") as raised:
        decoded(b"A", b"{}", headers)
    assert len(str(raised.value)) < 200


def test_a_version_under_the_key_of_another_order_is_fatal():
    """Its home may be another: two would publish it."""
    value, headers = encode_observation(observation(element()))
    with pytest.raises(FatalError, match="key"):
        decoded(b"another", value, headers)


def test_element_that_this_program_rejects_is_an_observation_of_the_order_of_the_key():
    """A newer program may understand more: the order is the same."""
    found = decoded(b"A", b"no json", header())
    assert isinstance(found.element, Rejected)
    assert found.key == b"A"
