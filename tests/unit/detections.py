"""Orders and rejected elements in one line each, and a lane that keeps what detection finds."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from hashlib import blake2b

import msgspec

from producer.detect.detect import Context, detect
from producer.domain.state import TrekkpliktigPosition, TrekkpliktigState
from producer.domain.trekkpaalegg import (
    Betalingsinformasjon,
    Origin,
    Rejected,
    RejectionReason,
    Trekkpaalegg,
    Trekkstatus,
    TrekkstoerrelseForPeriode,
)
from trekkpaalegg.identifiers import Foedselsnummer

TREKKPLIKTIG = "123456789"
NOW = 1_700_000_000_000_000
CONTEXT = Context(TREKKPLIKTIG, frozenset({TREKKPLIKTIG, "999999999"}), Origin.POLL, NOW)


def order(
    trekkid="A", trekkversjon=1, sekvensnummer=None, trekkpliktig=TREKKPLIKTIG, status=Trekkstatus.AKTIV, prosent="17"
):
    return Trekkpaalegg(
        trekkid=trekkid,
        trekkversjon=trekkversjon,
        sekvensnummer=sekvensnummer or trekkversjon * 10,
        opprettet=trekkversjon,
        saksnummer=None,
        trekkpliktig=trekkpliktig,
        skyldner=Foedselsnummer("10108412345"),
        trekkstatus=status,
        trekkstoerrelse_for_periode=(TrekkstoerrelseForPeriode(date(2025, 8, 10), None, None, Decimal(prosent)),),
        betalingsinformasjon=Betalingsinformasjon("971648199", "6487719756", "70213997155"),
        raw=b"{}",
    )


def rejected(trekkid="A", trekkversjon=1, sekvensnummer=None, raw=b"bad"):
    return Rejected(
        TREKKPLIKTIG,
        raw,
        blake2b(raw, digest_size=16).digest(),
        RejectionReason.INVALID_FIELD,
        "skyldner",
        "",
        trekkid,
        trekkversjon,
        sekvensnummer,
    )


class Lane:
    """Applies detections as a lane does after a commit, and keeps what was published."""

    def __init__(self):
        self.state = TrekkpliktigState()
        self.published = []
        self.quarantined = []

    def take(self, *elements, versions=None, **changes):
        context = msgspec.structs.replace(CONTEXT, **changes)
        return self.apply(detect(self.state, elements, versions or {}, context))

    def apply(self, found):
        self.state.remember_all(found.orders)
        self.state.position = TrekkpliktigPosition(found.position)
        self.published += [
            (p.trekkpaalegg.trekkid, p.trekkpaalegg.trekkversjon, p.origin.value, p.late, p.correction)
            for p in found.publications
        ]
        self.quarantined += [(r.trekkid, r.trekkversjon, r.reason) for r in found.rejected]
        return found

    def newest(self, trekkid="A"):
        return self.state.order(trekkid.encode()).trekkversjon

    def missing(self, trekkid="A"):
        return self.state.order(trekkid.encode()).missing


def published(trekkversjon, trekkid="A", origin="poll", late=False, correction=None):
    return (trekkid, trekkversjon, origin, late, correction)
