"""Records of `…-signals` are decoded, or refused as invalid: anyone may have written them."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.domain.requests import KINDS, OperatorRequest, WakeUp
from producer.encode.signal import (
    VALUE_BYTES_MAX,
    InvalidSignalError,
    SignalDocument,
    decode_signal,
    encode_request,
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
        document(v=2),
        document(v="1"),
        document(v=True),
        document(kind="drop_all"),
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
        document(filler="x" * VALUE_BYTES_MAX),
    ],
)
def test_value_that_is_no_signal_is_invalid_and_is_not_repeated(value):
    with pytest.raises(InvalidSignalError) as raised:
        decode_signal(ONE, value)
    assert len(str(raised.value)) < 100


@given(st.text(max_size=12) | st.just(ONE), st.binary(max_size=60) | st.none())
def test_any_record_is_decoded_or_invalid(key, value):
    try:
        decode_signal(key, value)
    except InvalidSignalError:
        return
    assert key.isdigit()


def test_schema_is_what_is_read(request):
    """`schemas/signal.schema.json` documents the format for others; change it together with `SignalDocument`."""
    path = request.config.rootpath / "schemas" / "signal.schema.json"
    written = json.loads(path.read_text(encoding="utf-8"))
    assert written["$defs"] == msgspec.json.schema(SignalDocument)["$defs"]
