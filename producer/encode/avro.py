"""Framing and the reference encoder: in comes one order version, out come the bytes of the event's value.

The reference encoder is fastavro's. `compiled.py` holds the faster one that the service uses, tested to write the same.
"""

from __future__ import annotations

import struct
from decimal import Context, Decimal, Inexact, InvalidOperation
from io import BytesIO
from typing import TYPE_CHECKING, Any

import fastavro

if TYPE_CHECKING:
    from collections.abc import Callable

    from producer.domain.trekkpaalegg import Trekkpaalegg, TrekkstoerrelseForPeriode
    from schemas import Schema

SINGLE_OBJECT_MARKER = b"\xc3\x01"
CONFLUENT_MARKER = b"\x00"
TREKKBELOEP_PRECISION, TREKKBELOEP_SCALE = 14, 2
TREKKPROSENT_PRECISION, TREKKPROSENT_SCALE = 5, 2


def single_object_prefix(fingerprint: bytes) -> bytes:
    """What stands before a value in Avro's single-object encoding: marker and the schema's fingerprint, 10 bytes."""
    return SINGLE_OBJECT_MARKER + fingerprint


def confluent_prefix(schema_id: int) -> bytes:
    """What stands before a value in Confluent's wire format: a zero byte and the registry's id of the schema."""
    return CONFLUENT_MARKER + struct.pack(">I", schema_id)


def decimal_bytes(value: Decimal, precision: int, scale: int) -> bytes:
    """The unscaled number in two's complement, big-endian, as Avro writes a decimal.

    Raises ValueError or ArithmeticError for what precision and scale cannot hold exactly; zeros at the end are no loss.
    """
    exact = Context(prec=precision, traps=[Inexact, InvalidOperation])
    unscaled = int(value.quantize(Decimal((0, (1,), -scale)), context=exact).scaleb(scale, context=exact))
    return unscaled.to_bytes((unscaled.bit_length() + 8) // 8, "big", signed=True)


def reference_encoder(schema: Schema, prefix: bytes) -> Callable[[Trekkpaalegg], bytes]:
    """A function from one order version to prefix and Avro bytes.

    It lets through whatever fastavro raises for a value that the schema cannot hold.
    """

    def encode_value(trekkpaalegg: Trekkpaalegg) -> bytes:
        buffer = BytesIO()
        buffer.write(prefix)
        fastavro.schemaless_writer(buffer, schema.parsed, _datum(trekkpaalegg))
        return buffer.getvalue()

    return encode_value


def _datum(trekkpaalegg: Trekkpaalegg) -> dict[str, Any]:
    betalingsinformasjon = trekkpaalegg.betalingsinformasjon
    return {
        "trekkid": trekkpaalegg.trekkid,
        "trekkversjon": trekkpaalegg.trekkversjon,
        "sekvensnummer": trekkpaalegg.sekvensnummer,
        "opprettet": trekkpaalegg.opprettet,
        "saksnummer": trekkpaalegg.saksnummer,
        "trekkpliktig": trekkpaalegg.trekkpliktig,
        "skyldner": trekkpaalegg.skyldner.reveal(),
        "trekkstatus": trekkpaalegg.trekkstatus.value,
        "trekkstoerrelse_for_periode": [_periode(periode) for periode in trekkpaalegg.trekkstoerrelse_for_periode],
        "betalingsinformasjon": {
            "betalingsmottaker": betalingsinformasjon.betalingsmottaker,
            "kidnummer": betalingsinformasjon.kidnummer,
            "kontonummer": betalingsinformasjon.kontonummer,
            "ukjente_felter": betalingsinformasjon.ukjente_felter,
        },
        "ukjente_felter": trekkpaalegg.ukjente_felter,
    }


def _periode(periode: TrekkstoerrelseForPeriode) -> dict[str, Any]:
    beloep, prosent = periode.trekkbeloep, periode.trekkprosent
    return {
        "startdato": periode.startdato,
        "sluttdato": periode.sluttdato,
        "trekkbeloep": None if beloep is None else decimal_bytes(beloep, TREKKBELOEP_PRECISION, TREKKBELOEP_SCALE),
        "trekkprosent": None if prosent is None else decimal_bytes(prosent, TREKKPROSENT_PRECISION, TREKKPROSENT_SCALE),
        "ukjente_felter": periode.ukjente_felter,
    }
