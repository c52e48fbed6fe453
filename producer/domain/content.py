"""From a version to a hash of its content: the same content gives the same hash, however it was written."""

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
"""Rises with every change of the method below, so that a change of ours raises no alarm about theirs."""

CONTENT_HASH_BYTES = 8

_encode = msgspec.msgpack.Encoder(decimal_format="string").encode


@lru_cache(maxsize=65536)
def _canonical(number: Decimal) -> str:
    """5000 and 5000.0 alike."""
    return format(number.normalize(), "f")


def content_hash(trekkpaalegg: Trekkpaalegg, trekkstatus: Trekkstatus | None = None) -> bytes:
    """Eight bytes over every known field but sekvensnummer, as if the status were `trekkstatus` when it is given.

    Unknown fields are left out, so that a field which is new upstream changes nothing; sekvensnummer says where in
    the source's order a version stands, not what it says.
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
