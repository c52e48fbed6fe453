"""A hash of a version's content: equal content has an equal hash, however the JSON was written."""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec

from producer.domain.trekkpaalegg import Trekkstatus

if TYPE_CHECKING:
    from decimal import Decimal

    from producer.domain.trekkpaalegg import Trekkpaalegg

CONTENT_HASH_VERSION = 1
"""Increase it with every change of the method below, so that our change is not reported as changed content."""

CONTENT_HASH_BYTES = 8

_encode = msgspec.msgpack.Encoder(decimal_format="string").encode


@lru_cache(maxsize=65536)
def _canonical(number: Decimal) -> str:
    """The same text for 5000 and 5000.0."""
    return format(number.normalize(), "f")


def content_hash(trekkpaalegg: Trekkpaalegg, trekkstatus: Trekkstatus | None = None) -> bytes:
    """Eight bytes over every known field except sekvensnummer; with `trekkstatus` in place of its status if given.

    Unknown fields are left out, so that a new field upstream changes nothing. sekvensnummer is left out because it is a
    position in the source, not content.
    """
    status = trekkstatus or trekkpaalegg.trekkstatus
    betalingsinformasjon = trekkpaalegg.betalingsinformasjon
    return blake2b(
        _encode(
            (
                trekkpaalegg.trekkid,
                trekkpaalegg.trekkversjon,
                trekkpaalegg.opprettet,
                trekkpaalegg.saksnummer,
                trekkpaalegg.trekkpliktig,
                trekkpaalegg.skyldner.encode(),
                trekkpaalegg.ukjente_felter.get("trekkstatus") if status is Trekkstatus.UKJENT else status,
                [
                    (
                        periode.startdato,
                        periode.sluttdato,
                        None if periode.trekkbeloep is None else _canonical(periode.trekkbeloep),
                        None if periode.trekkprosent is None else _canonical(periode.trekkprosent),
                    )
                    for periode in trekkpaalegg.trekkstoerrelse_for_periode
                ],
                betalingsinformasjon.betalingsmottaker,
                betalingsinformasjon.kidnummer,
                betalingsinformasjon.kontonummer,
            )
        ),
        digest_size=CONTENT_HASH_BYTES,
    ).digest()
