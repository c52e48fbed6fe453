"""A hash of a version's content: equal content has an equal hash, however the JSON was written.

A hash is compared by the method that made it, so that a change of method is not taken for changed content, nor hides
any.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import msgspec

from producer.domain.trekkpaalegg import Trekkstatus

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal

    from producer.domain.trekkpaalegg import Trekkpaalegg

CONTENT_HASH_VERSION: Final = 1
"""The number of the method by which new hashes are made. A changed method is a further one in `METHODS`."""

CONTENT_HASH_BYTES = 8

_encode = msgspec.msgpack.Encoder(decimal_format="string").encode


@lru_cache(maxsize=65536)
def _canonical(number: Decimal) -> str:
    """The same text for 5000 and 5000.0."""
    return format(number.normalize(), "f")


def _method_1(trekkpaalegg: Trekkpaalegg, status: Trekkstatus) -> bytes:
    """Every known field except sekvensnummer, which is a position in the source and no content.

    Unknown fields are left out, so that a new field upstream changes nothing.
    """
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


METHODS: dict[int, Callable[[Trekkpaalegg, Trekkstatus], bytes]] = {1: _method_1}
"""By number, for ever: state holds hashes of each. A number that is not here is a newer program's."""


QUARANTINE_METHOD: Final = 1
"""The method of hashes by which content in quarantine is recognised, for ever. By that of new hashes each change of
method, and each program beside another, would quarantine everything again."""


def content_hash(
    trekkpaalegg: Trekkpaalegg, trekkstatus: Trekkstatus | None = None, *, method: int = CONTENT_HASH_VERSION
) -> bytes:
    """Eight bytes over the content, by the method of this number; as if the status were `trekkstatus` if given.

    Raises `KeyError` for a method that is not in `METHODS`.
    """
    return METHODS[method](trekkpaalegg, trekkstatus or trekkpaalegg.trekkstatus)


def quarantine_hash(trekkpaalegg: Trekkpaalegg) -> bytes:
    """The hash by which this content is recognised once it is in quarantine."""
    return content_hash(trekkpaalegg, method=QUARANTINE_METHOD)
