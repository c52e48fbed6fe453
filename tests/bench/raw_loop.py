"""A raw loop that commits pages from memory to one topic and does nothing else: what the back-fill is measured against.

Decoding goes straight into structs with the true types, encoding to Avro by fastavro or by the compiled encoder, then
every event is produced with the contract's headers, one transaction a page. No check, no state, no second topic.
"""

from __future__ import annotations

import enum
import io
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import fastavro
import msgspec

import schemas
from producer.domain.trekkpaalegg import Betalingsinformasjon, Trekkpaalegg, Trekkstatus, TrekkstoerrelseForPeriode
from producer.encode.avro import compile_encoder, decimal_bytes, single_object_prefix
from sandbox.skatteetaten.generate import generate_versions
from trekkpaalegg.identifiers import Foedselsnummer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from confluent_kafka import Producer

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Status(enum.Enum):
    AKTIV = "aktiv"
    AVSLUTTET = "avsluttet"


class _Beloep(msgspec.Struct, gc=False):
    trekkbeloep: Decimal


class _Prosent(msgspec.Struct, gc=False):
    trekkprosent: Decimal


class _Periode(msgspec.Struct, gc=False):
    startdato: date
    sluttdato: date | None = None
    trekkbeloep: _Beloep | None = None
    trekkprosent: _Prosent | None = None


class _Betalingsinformasjon(msgspec.Struct, gc=False):
    betalingsmottaker: str
    kidnummer: str
    kontonummer: str


class _Trekkpaalegg(msgspec.Struct, rename="camel", gc=False):
    trekkid: str
    trekkversjon: int
    sekvensnummer: int
    opprettet: datetime
    trekkpliktig: str
    skyldner: str
    trekkstatus: _Status
    trekkstoerrelse_for_periode: list[_Periode]
    betalingsinformasjon: _Betalingsinformasjon
    saksnummer: str | None = None


def make_pages(trekkpliktig: str, orders: int, page_size: int) -> list[bytes]:
    """The answers that the simulated API would give for one employer with so many orders."""
    bodies = [version.body for version in generate_versions(0, [trekkpliktig], orders, versions_max=1)]
    return [b"[" + b",".join(bodies[at : at + page_size]) + b"]" for at in range(0, orders, page_size)]


def raw_loop(pages: list[bytes], producer: Producer, topic: str, encode: Callable[[_Trekkpaalegg], bytes]) -> int:
    """How many events were committed."""
    decode = msgspec.json.Decoder(list[_Trekkpaalegg], float_hook=Decimal).decode
    fingerprint = schemas.load("trekkpaalegg_versjon").fingerprint.hex().encode()
    constant = [
        ("content-type", b"application/avro"),
        ("ce_specversion", b"1.0"),
        ("ce_type", b"trekkpaalegg.versjon.v1"),
        ("ce_source", b"http://127.0.0.1/api/trekkpaalegg/v1"),
        ("ce_schemafingerprint", fingerprint),
        ("ce_origin", b"poll"),
    ]
    count = 0
    for page in pages:
        elements = decode(page)
        producer.begin_transaction()
        for element in elements:
            key = element.trekkid.encode()
            headers = [
                *constant,
                ("ce_id", b"%s/%d" % (key, element.trekkversjon)),
                ("ce_subject", key),
                ("ce_time", element.opprettet.isoformat().encode()),
                ("ce_sekvensnummer", b"%d" % element.sekvensnummer),
                ("ce_trekkpliktig", element.trekkpliktig.encode()),
            ]
            producer.produce(topic, encode(element), key, headers=headers)
        producer.commit_transaction()
        count += len(elements)
    return count


def fastavro_encoder() -> Callable[[_Trekkpaalegg], bytes]:
    """Struct → dictionary → fastavro, decimals as prepared bytes: the quickest way with fastavro alone."""
    schema = schemas.load("trekkpaalegg_versjon")
    prefix = single_object_prefix(schema.fingerprint)
    beloep_bytes = lru_cache(4096)(lambda value: decimal_bytes(value, 14, 2))
    prosent_bytes = lru_cache(4096)(lambda value: decimal_bytes(value, 5, 2))

    def periods(wire: _Trekkpaalegg) -> Iterator[dict[str, Any]]:
        for periode in wire.trekkstoerrelse_for_periode:
            beloep, prosent = periode.trekkbeloep, periode.trekkprosent
            yield {
                "startdato": periode.startdato,
                "sluttdato": periode.sluttdato,
                "trekkbeloep": None if beloep is None else beloep_bytes(beloep.trekkbeloep),
                "trekkprosent": None if prosent is None else prosent_bytes(prosent.trekkprosent),
                "ukjente_felter": {},
            }

    def encode(wire: _Trekkpaalegg) -> bytes:
        inner = wire.betalingsinformasjon
        datum = {
            "trekkid": wire.trekkid,
            "trekkversjon": wire.trekkversjon,
            "sekvensnummer": wire.sekvensnummer,
            "opprettet": wire.opprettet,
            "saksnummer": wire.saksnummer,
            "trekkpliktig": wire.trekkpliktig,
            "skyldner": wire.skyldner,
            "trekkstatus": wire.trekkstatus.value,
            "trekkstoerrelse_for_periode": list(periods(wire)),
            "betalingsinformasjon": {
                "betalingsmottaker": inner.betalingsmottaker,
                "kidnummer": inner.kidnummer,
                "kontonummer": inner.kontonummer,
                "ukjente_felter": {},
            },
            "ukjente_felter": {},
        }
        buffer = io.BytesIO()
        buffer.write(prefix)
        fastavro.schemaless_writer(buffer, schema.parsed, datum)
        return buffer.getvalue()

    return encode


def compiled_encoder() -> Callable[[_Trekkpaalegg], bytes]:
    """Struct → the domain's struct → the encoder that the service uses."""
    schema = schemas.load("trekkpaalegg_versjon")
    compiled = compile_encoder(schema, single_object_prefix(schema.fingerprint))

    def encode(wire: _Trekkpaalegg) -> bytes:
        inner, since = wire.betalingsinformasjon, wire.opprettet - _EPOCH
        return compiled(
            Trekkpaalegg(
                wire.trekkid,
                wire.trekkversjon,
                wire.sekvensnummer,
                (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds,
                wire.saksnummer,
                wire.trekkpliktig,
                Foedselsnummer(wire.skyldner),
                Trekkstatus(wire.trekkstatus.value),
                tuple([_periode(periode) for periode in wire.trekkstoerrelse_for_periode]),
                Betalingsinformasjon(inner.betalingsmottaker, inner.kidnummer, inner.kontonummer),
            )
        )

    return encode


def _periode(periode: _Periode) -> TrekkstoerrelseForPeriode:
    return TrekkstoerrelseForPeriode(
        periode.startdato,
        periode.sluttdato,
        periode.trekkbeloep and periode.trekkbeloep.trekkbeloep,
        periode.trekkprosent and periode.trekkprosent.trekkprosent,
    )
