"""A rejected element as a Kafka record of the quarantine: key, value and headers.

Only the value may hold personal data, in its raw bytes. Key and headers never do.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import fastavro

from producer.domain.trekkpaalegg import RejectionReason
from producer.encode.event import CONTENT_TYPE, SPECVERSION, EncodedEvent, rfc3339

if TYPE_CHECKING:
    from producer.domain.trekkpaalegg import Origin, Rejected
    from schemas import Schema

RAW_BYTES_MAX = 256 * 1024
IDENTITY_BYTES_MAX = 4000
"""A longer trekkid (1000 characters) is only in the raw bytes, since brokers limit the length of a key."""
EVENT_TYPE = b"trekkpaalegg.rejected.v1"
_LONG_MIN, _LONG_MAX = -(2**63), 2**63 - 1


class RejectedEncoder:
    """Encodes rejected elements for one source, schema and wire format.

    `api_url` becomes `ce_source`. `prefix` is what the wire format puts before the value. Longer raw bytes than
    `raw_bytes_max` are cut off.
    """

    def __init__(self, api_url: str, schema: Schema, prefix: bytes, raw_bytes_max: int = RAW_BYTES_MAX) -> None:
        self._schema = schema
        self._prefix = prefix
        self._raw_bytes_max = raw_bytes_max
        self._constant = {
            "content-type": CONTENT_TYPE,
            "ce_specversion": SPECVERSION,
            "ce_type": EVENT_TYPE,
            "ce_source": api_url.encode(),
            "ce_schemafingerprint": schema.fingerprint.hex().encode(),
        }

    def encode(self, rejected: Rejected, origin: Origin, rejected_at: int) -> EncodedEvent:
        """Key, value and headers of a quarantine record; `rejected_at` in microseconds since 1970.

        The key is the trekkid, or the hexadecimal raw hash if the trekkid is unknown or may not be shown.
        """
        trekkid = _trekkid_for_key(rejected)
        raw_hash = rejected.raw_hash.hex().encode()
        headers = {
            **self._constant,
            "ce_id": raw_hash,
            "ce_time": rfc3339(rejected_at),
            "ce_trekkpliktig": rejected.trekkpliktig.encode(),
            "ce_origin": origin.value.encode(),
            "ce_reason": rejected.reason.value.encode(),
            "ce_fieldpath": rejected.field_path.encode(),
        }
        if trekkid is None:
            return EncodedEvent(raw_hash, self._value(rejected, trekkid, origin, rejected_at), headers)
        key = trekkid.encode()
        headers["ce_subject"] = key
        return EncodedEvent(key, self._value(rejected, trekkid, origin, rejected_at), headers)

    def _value(self, rejected: Rejected, trekkid: str | None, origin: Origin, rejected_at: int) -> bytes:
        buffer = BytesIO()
        buffer.write(self._prefix)
        datum = {
            "reason": rejected.reason.value,
            "field_path": rejected.field_path,
            "detail": rejected.detail,
            "trekkpliktig": rejected.trekkpliktig,
            "trekkid": trekkid,
            "trekkversjon": _long_or_none(rejected.trekkversjon),
            "sekvensnummer": _long_or_none(rejected.sekvensnummer),
            "raw": rejected.raw[: self._raw_bytes_max],
            "raw_truncated": len(rejected.raw) > self._raw_bytes_max,
            "raw_bytes_total": len(rejected.raw),
            "raw_hash": rejected.raw_hash,
            "rejected_at": rejected_at,
            "origin": origin.value,
        }
        fastavro.schemaless_writer(buffer, self._schema.parsed, datum)
        return buffer.getvalue()


def _trekkid_for_key(rejected: Rejected) -> str | None:
    """The trekkid if it may be a key: readable, not too long, and not a person's number."""
    if rejected.trekkid is None or rejected.reason is RejectionReason.PERSONAL_DATA_IN_IDENTITY:
        return None
    try:
        encoded = rejected.trekkid.encode()
    except UnicodeEncodeError:
        return None
    return rejected.trekkid if 0 < len(encoded) <= IDENTITY_BYTES_MAX else None


def _long_or_none(number: int | None) -> int | None:
    """The number; None if Avro cannot hold it, as the raw bytes have it too."""
    return number if number is not None and _LONG_MIN <= number <= _LONG_MAX else None
