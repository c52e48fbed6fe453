"""A quarantine record keeps the raw bytes in its value, and nothing personal outside of it."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import fastavro
import msgspec
import pytest

import schemas
from producer.domain.trekkpaalegg import Origin, Rejected, RejectionReason
from producer.encode.rejected import RejectedEncoder

API_URL = "https://api.skatteetaten.no/api/trekkpaalegg/v1"
SCHEMA = schemas.load("trekkpaalegg_rejected")
RAW = b'{"trekkid":"10001","skyldner":"12345678901"}'
REJECTED = Rejected(
    trekkpliktig="314150260",
    raw=RAW,
    raw_hash=bytes(range(8)),
    reason=RejectionReason.MISSING_FIELD,
    field_path="trekkstoerrelseForPeriode[0].startdato",
    detail="The field is missing.",
    trekkid="10001",
    trekkversjon=2,
    sekvensnummer=77,
)
REJECTED_AT = 1_767_225_600_000_000
ENCODER = RejectedEncoder(API_URL, SCHEMA, b"prefix", raw_bytes_max=len(RAW))


def decoded(value: bytes) -> dict[str, Any]:
    assert value.startswith(b"prefix")
    return fastavro.schemaless_reader(BytesIO(value.removeprefix(b"prefix")), SCHEMA.parsed)


def test_a_value_has_everything_that_is_known() -> None:
    datum = decoded(ENCODER.encode(REJECTED, Origin.POLL, REJECTED_AT).value)
    assert datum.pop("rejected_at").isoformat() == "2026-01-01T00:00:00+00:00"
    assert datum == {
        "reason": "missing_field",
        "field_path": "trekkstoerrelseForPeriode[0].startdato",
        "detail": "The field is missing.",
        "trekkpliktig": "314150260",
        "trekkid": "10001",
        "trekkversjon": 2,
        "sekvensnummer": 77,
        "raw": RAW,
        "raw_truncated": False,
        "raw_bytes_total": len(RAW),
        "raw_hash": bytes(range(8)),
        "origin": "poll",
    }


def test_headers_hold_reason_and_path() -> None:
    event = ENCODER.encode(REJECTED, Origin.POLL, REJECTED_AT)
    assert event.key == b"10001"
    assert dict(event.headers) == {
        "content-type": b"application/avro",
        "ce_specversion": b"1.0",
        "ce_type": b"trekkpaalegg.rejected.v1",
        "ce_source": API_URL.encode(),
        "ce_schemafingerprint": SCHEMA.fingerprint.hex().encode(),
        "ce_id": b"0001020304050607",
        "ce_time": b"2026-01-01T00:00:00Z",
        "ce_trekkpliktig": b"314150260",
        "ce_origin": b"poll",
        "ce_reason": b"missing_field",
        "ce_fieldpath": b"trekkstoerrelseForPeriode[0].startdato",
        "ce_subject": b"10001",
    }
    assert b"12345678901" not in event.key + b"".join(event.headers.values())


def test_raw_bytes_are_capped_and_say_so() -> None:
    datum = decoded(ENCODER.encode(msgspec.structs.replace(REJECTED, raw=RAW + b" "), Origin.POLL, REJECTED_AT).value)
    assert (datum["raw"], datum["raw_truncated"], datum["raw_bytes_total"]) == (RAW, True, len(RAW) + 1)


@pytest.mark.parametrize(
    "change",
    [
        {"trekkid": None},
        {"trekkid": ""},
        {"trekkid": "x" * 4001},
        {"trekkid": "\ud800"},
        {"reason": RejectionReason.PERSONAL_DATA_IN_IDENTITY, "trekkid": "12345678901"},
    ],
)
def test_key_is_the_raw_hash_if_the_trekkid_is_unknown(change: dict[str, Any]) -> None:
    event = ENCODER.encode(msgspec.structs.replace(REJECTED, **change), Origin.POLL, REJECTED_AT)
    assert event.key == b"0001020304050607"
    assert "ce_subject" not in dict(event.headers)
    assert decoded(event.value)["trekkid"] is None


def test_numbers_beyond_64_bits_count_as_not_readable() -> None:
    event = ENCODER.encode(msgspec.structs.replace(REJECTED, trekkversjon=2**63, sekvensnummer=None), Origin.POLL, 0)
    datum = decoded(event.value)
    assert (datum["trekkversjon"], datum["sekvensnummer"]) == (None, None)
