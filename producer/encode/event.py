"""An event as a Kafka record: key, value and headers.

The headers are CloudEvents 1.0 in binary mode. Neither they nor the key hold a national id.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from producer.domain.trekkpaalegg import (
    Betalingsinformasjon,
    Origin,
    RejectionReason,
    Trekkpaalegg,
    Trekkstatus,
    TrekkstoerrelseForPeriode,
)
from producer.errors import RejectedTrekkpaaleggError

if TYPE_CHECKING:
    from collections.abc import Callable

    from producer.domain.trekkpaalegg import Publication
    from trekkpaalegg.event import TrekkpaaleggVersjon

EVENT_BYTES_MAX = 512 * 1024
CONTENT_TYPE = b"application/avro"
SPECVERSION = b"1.0"
EVENT_TYPE = b"trekkpaalegg.versjon.v1"
TREKKPLIKTIG = "ce_trekkpliktig"

Headers = dict[str, bytes]

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - without zone, so that isoformat() writes none and Z can be appended
_EPOCH_IN_UTC = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_TREKKSTATUS = {trekkstatus.value: trekkstatus for trekkstatus in Trekkstatus}
_ORIGIN = {origin: origin.value.encode() for origin in Origin}
_COPIES_OF_TREKKID = 3
_MICROS_A_SECOND = 1_000_000
_MICROS_A_MINUTE = 60 * _MICROS_A_SECOND
_MICROS_AN_HOUR = 60 * _MICROS_A_MINUTE


class EncodedEvent(msgspec.Struct, frozen=True, gc=False):
    """A Kafka record without its topic. The key is the trekkid in UTF-8."""

    key: bytes
    value: bytes
    headers: Headers


class EventEncoder:
    """Encodes publications for one source, schema and wire format.

    `api_url` becomes `ce_source`. `encode_value` returns prefix and Avro bytes of an order version. `fingerprint` is
    the schema's, in the byte order of single-object encoding. `event_bytes_max` limits the whole record.
    """

    def __init__(
        self,
        api_url: str,
        encode_value: Callable[[Trekkpaalegg], bytes],
        fingerprint: bytes,
        event_bytes_max: int = EVENT_BYTES_MAX,
    ) -> None:
        self._encode_value = encode_value
        self._event_bytes_max = event_bytes_max
        self._source = api_url.encode()
        self._fingerprint = fingerprint.hex().encode()

    def encode(self, publication: Publication) -> EncodedEvent:
        """Key, value and headers of an event.

        Raises `RejectedTrekkpaaleggError` for a value that the schema cannot hold, and for an event that is too large.
        """
        trekkpaalegg = publication.trekkpaalegg
        value = self._encode_value(trekkpaalegg)
        key = trekkpaalegg.trekkid.encode()
        if len(value) + _COPIES_OF_TREKKID * len(key) > self._event_bytes_max:
            raise RejectedTrekkpaaleggError(RejectionReason.TOO_LARGE.value, "$")
        identity = b"%s/%d" % (key, trekkpaalegg.trekkversjon)
        correction = publication.correction
        # Written out, as it runs a million times: adding to a copy of the constant headers takes half as long again.
        headers = {
            "content-type": CONTENT_TYPE,
            "ce_specversion": SPECVERSION,
            "ce_type": EVENT_TYPE,
            "ce_source": self._source,
            "ce_schemafingerprint": self._fingerprint,
            "ce_id": identity if correction is None else b"%s/%d" % (identity, correction),
            "ce_subject": key,
            "ce_time": _opprettet_bytes(trekkpaalegg.opprettet),
            "ce_sekvensnummer": b"%d" % trekkpaalegg.sekvensnummer,
            "ce_trekkpliktig": trekkpaalegg.trekkpliktig.encode(),
            "ce_origin": _ORIGIN[publication.origin],
        }
        if publication.late:
            headers["ce_late"] = b"true"
        if correction is not None:
            headers["ce_correction"] = b"%d" % correction
        return EncodedEvent(key, value, headers)


def rfc3339(micros: int) -> bytes:
    """An instant, in microseconds since 1970, as RFC 3339 in UTC, with a fraction only if it has one.

    Raises OverflowError outside the years 1 to 9999.
    """
    hours, rest = divmod(micros, _MICROS_AN_HOUR)
    minutes, rest = divmod(rest, _MICROS_A_MINUTE)
    seconds, fraction = divmod(rest, _MICROS_A_SECOND)
    if fraction:
        return b"%s%02d:%02d.%06dZ" % (_to_the_hour(hours), minutes, seconds, fraction)
    return b"%s%02d:%02dZ" % (_to_the_hour(hours), minutes, seconds)


@lru_cache(maxsize=4096)
def _to_the_hour(hours: int) -> bytes:
    """`2026-01-05T08:` from the hours since 1970. Versions arrive roughly in the order of their creation."""
    return (_EPOCH + timedelta(hours=hours)).isoformat()[:14].encode()


def _opprettet_bytes(opprettet: int) -> bytes:
    try:
        return rfc3339(opprettet)
    except OverflowError:
        raise RejectedTrekkpaaleggError(RejectionReason.OUT_OF_RANGE.value, "opprettet") from None


def trekkpaalegg_of(event: TrekkpaaleggVersjon) -> Trekkpaalegg:
    """The order version that was encoded as this event, as `trekkpaalegg.decode.Decoder` gives it; without raw bytes.

    It has the content hash of the version that was published.
    """
    betalingsinformasjon = event.betalingsinformasjon
    return Trekkpaalegg(
        event.trekkid,
        event.trekkversjon,
        event.sekvensnummer,
        (event.opprettet - _EPOCH_IN_UTC) // _MICROSECOND,
        event.saksnummer,
        event.trekkpliktig,
        event.skyldner,
        _TREKKSTATUS[event.trekkstatus],
        tuple(
            [
                TrekkstoerrelseForPeriode(
                    periode.startdato,
                    periode.sluttdato,
                    periode.trekkbeloep,
                    periode.trekkprosent,
                    periode.ukjente_felter,
                )
                for periode in event.trekkstoerrelse_for_periode
            ]
        ),
        Betalingsinformasjon(
            betalingsinformasjon.betalingsmottaker,
            betalingsinformasjon.kidnummer,
            betalingsinformasjon.kontonummer,
            betalingsinformasjon.ukjente_felter,
        ),
        event.ukjente_felter,
    )
