"""Versions of one made-up order, A, and elements of its that cannot be understood."""

from __future__ import annotations

from decimal import Decimal
from random import Random
from typing import Any

from msgspec.structs import replace

from producer.domain.trekkpaalegg import Rejected, RejectionReason, Trekkpaalegg
from tests.kit.fakes.source import make_trekkpaalegg

TREKKPLIKTIG = "311111111"
TEMPLATE = make_trekkpaalegg(TREKKPLIKTIG, Random(1), sekvensnummer=1)


def version(trekkversjon: int = 1, amount: int | str = 100, **changes: Any) -> Trekkpaalegg:  # any of its fields
    """One version, which withholds this amount of kroner a month."""
    periode = replace(TEMPLATE.trekkstoerrelse_for_periode[0], trekkbeloep=Decimal(amount))
    named = {"trekkid": "A", "trekkversjon": trekkversjon, "sekvensnummer": 10 * trekkversjon}
    return replace(TEMPLATE, **{**named, "trekkstoerrelse_for_periode": (periode,), **changes})


def rejected_version(trekkversjon: int | None = 1, raw: bytes = b"bad", trekkid: str | None = "A") -> Rejected:
    """An element that cannot be understood; another one for another `raw`."""
    reason, number = RejectionReason.INVALID_FIELD, 10 * (trekkversjon or 1)
    return Rejected(TREKKPLIKTIG, raw, raw.ljust(16), reason, "skyldner", "", trekkid, trekkversjon, number)
