"""Records of `…-signals` are decoded, or refused as invalid: anyone may have written them."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.domain.requests import KINDS, REPAIR, Answer, OperatorRequest, Show, WakeUp
from producer.encode.signal import (
    EVERYBODY,
    VALUE_BYTES_MAX,
    InvalidSignalError,
    SignalDocument,
    UnknownSignalError,
    decode_signal,
    encode_answer,
    encode_request,
    encode_show,
    encode_wake_up,
)

ONE = "311111111"


def document(**fields):
    return json.dumps({"v": 1, "kind": "backfill", "id": "w", "asked_at": 5} | fields).encode()


@pytest.mark.parametrize("value", [None, b""])
def test_record_without_a_value_is_a_bare_wake_up(value):
    assert decode_signal(ONE, value) == WakeUp()
    assert encode_wake_up() is None


def test_wake_up_of_a_notification_carries_its_id():
    assert decode_signal(ONE, encode_wake_up("c0ffee")) == WakeUp("c0ffee")


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_request_survives_a_round_trip(kind):
    request = OperatorRequest("id", kind, 1_790_000_000_000_000, 7 if kind == "set" else None)
    if kind == "release":
        request = msgspec.structs.replace(request, record="3/17", correction=True)
    assert decode_signal(ONE, encode_request(request)) == request


numbers = st.integers(0, 2**63 - 1)


@given(
    st.builds(
        Answer,
        request=st.text('aé/"\\', min_size=1, max_size=200),
        lane=numbers,
        published=numbers,
        quarantined=numbers,
    )
)
def test_an_answer_survives_a_round_trip_and_fits(answer):
    assert len(encode_answer(answer)) <= VALUE_BYTES_MAX
    assert decode_signal(ONE, encode_answer(answer)) == answer


@given(st.builds(Show, numbers))
def test_show_goes_to_everybody(show):
    assert decode_signal(EVERYBODY, encode_show(show)) == show


def test_repair_goes_to_a_lane():
    request = OperatorRequest("w", REPAIR, 5)
    assert decode_signal(EVERYBODY, encode_request(request)) == request


def test_key_for_everybody_goes_with_show_and_repair_alone():
    repair = encode_request(OperatorRequest("w", REPAIR, 5))
    for key, value in [(EVERYBODY, None), (EVERYBODY, document()), (ONE, encode_show(Show(5))), (ONE, repair)]:
        with pytest.raises(InvalidSignalError, match="key"):
            decode_signal(key, value)


@pytest.mark.parametrize("since", [{}, {"since": -1}, {"since": 2**63}])
def test_show_needs_a_time(since):
    with pytest.raises(InvalidSignalError, match="since"):
        decode_signal(EVERYBODY, document(kind="show", **since))


def test_unknown_fields_are_skipped():
    """A newer program may add some: a worker that is older takes the request all the same."""
    assert decode_signal(ONE, document(reason={"by": ["someone"]})) == OperatorRequest("w", "backfill", 5)


@pytest.mark.parametrize("key", ["", "31111111", "3111111111", "31111111x", "٣11111111", "12345678901", "nobody"])
def test_key_that_is_no_organisation_number_is_invalid(key):
    with pytest.raises(InvalidSignalError, match="key"):
        decode_signal(key, None)


@pytest.mark.parametrize(
    "value",
    [
        b"no json",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'"wakeup"',
        b"{}",
        b"[" * 3000,
        b'{"x":' * 800,
        document(v=0),
        document(v="1"),
        document(v=True),
        document(kind=None),
        document(id=""),
        document(id="x" * 201),
        document(id=7),
        document(position=3),
        document(kind="set"),
        document(kind="release"),
        document(kind="release", record="3"),
        document(kind="release", record="3/x"),
        document(kind="release", record=17),
        document(record="3/17"),
        document(correction=True),
        document(kind="set", position=-1),
        document(kind="set", position=2**63),
        document(asked_at=-1),
        document(asked_at=2**64),
        document(asked_at=1.5),
        document(kind="answer"),
        document(kind="answer", lane=-1),
        document(kind="answer", lane=2**63),
        document(kind="answer", lane=0, published=-1),
        document(kind="answer", lane=0, quarantined=2**63),
        document(kind="answer", lane=0, id=""),
        document(filler="x" * VALUE_BYTES_MAX),
    ],
)
def test_value_that_is_no_signal_is_invalid_and_is_not_repeated(value):
    with pytest.raises(InvalidSignalError) as raised:
        decode_signal(ONE, value)
    assert len(str(raised.value)) < 100


@given(st.text(max_size=12) | st.sampled_from([ONE, EVERYBODY]), st.binary(max_size=60) | st.none())
def test_any_record_is_decoded_or_invalid(key, value):
    try:
        decode_signal(key, value)
    except (InvalidSignalError, UnknownSignalError):
        return
    assert key == EVERYBODY or key.isdigit()


@pytest.mark.parametrize("key", [ONE, EVERYBODY])
@pytest.mark.parametrize(
    "value",
    [document(kind="freeze"), document(kind="freeze", position="?"), document(v=2), document(v=2, kind="freeze")],
)
def test_kind_or_version_of_a_newer_program_is_unknown_and_not_invalid(key, value):
    with pytest.raises(UnknownSignalError):
        decode_signal(key, value)


def test_schema_is_what_is_read(request):
    """`schemas/signal.schema.json` documents the format for others; change it together with `SignalDocument`."""
    path = request.config.rootpath / "schemas" / "signal.schema.json"
    written = json.loads(path.read_text(encoding="utf-8"))
    assert written["$defs"] == msgspec.json.schema(SignalDocument)["$defs"]
