"""One version of a trekkpålegg, as the producer works with it: wire names in snake_case, values with proper types."""

from __future__ import annotations

import enum
from datetime import date
from decimal import Decimal

import msgspec

from trekkpaalegg.identifiers import Foedselsnummer


class Trekkstatus(enum.Enum):
    """Whether the order is in force. An unknown status is `UKJENT`, and its text is kept in `ukjente_felter`."""

    AKTIV = "aktiv"
    AVSLUTTET = "avsluttet"
    UKJENT = "ukjent"


class TrekkstoerrelseForPeriode(msgspec.Struct, frozen=True, gc=False):
    """What to withhold in one period: either an amount (NOK a month) or a percentage (of gross pay)."""

    startdato: date
    sluttdato: date | None
    trekkbeloep: Decimal | None
    trekkprosent: Decimal | None
    ukjente_felter: dict[str, str] = {}


class Betalingsinformasjon(msgspec.Struct, frozen=True, gc=False):
    """Where the employer pays what was withheld."""

    betalingsmottaker: str
    kidnummer: str
    kontonummer: str
    ukjente_felter: dict[str, str] = {}


class Trekkpaalegg(msgspec.Struct, frozen=True, gc=False, repr_omit_defaults=True):
    """One version of an order. `opprettet` is in microseconds since 1970 (UTC)."""

    trekkid: str
    trekkversjon: int
    sekvensnummer: int
    opprettet: int
    saksnummer: str | None
    trekkpliktig: str
    skyldner: Foedselsnummer
    trekkstatus: Trekkstatus
    trekkstoerrelse_for_periode: tuple[TrekkstoerrelseForPeriode, ...]
    betalingsinformasjon: Betalingsinformasjon
    ukjente_felter: dict[str, str] = {}
    raw: bytes = b""
    """The JSON text that it was read from, for the quarantine."""

    def __repr__(self) -> str:
        return f"Trekkpaalegg({self.trekkid!r}, trekkversjon={self.trekkversjon}, sekvensnummer={self.sekvensnummer})"


class RejectionReason(enum.Enum):
    """Why a record is quarantined."""

    NOT_AN_OBJECT = "not_an_object"
    INVALID_FIELD = "invalid_field"
    MISSING_FIELD = "missing_field"
    AMOUNT_OR_PERCENT = "amount_or_percent"
    PERIOD_DATES = "period_dates"
    OUT_OF_RANGE = "out_of_range"
    PERSONAL_DATA_IN_IDENTITY = "personal_data_in_identity"
    TOO_LARGE = "too_large"
    VERSION_JUMP = "version_jump"
    CHANGED_CONTENT = "changed_content"


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """An element that is not published. The optional fields hold what could be read of its identity.

    `raw` is the element as received, `field_path` names the field at fault (`trekkstoerrelseForPeriode[0].startdato`),
    `detail` is one sentence without any value. `raw_hash` is equal for equal JSON values, whatever their field order
    and white space.
    """

    trekkpliktig: str
    raw: bytes
    raw_hash: bytes
    reason: RejectionReason
    field_path: str
    detail: str
    trekkid: str | None = None
    trekkversjon: int | None = None
    sekvensnummer: int | None = None

    def __repr__(self) -> str:
        return f"Rejected({self.reason.value!r}, {self.field_path!r}, trekkid={self.trekkid!r}, {self.trekkversjon!r})"


class Gone(msgspec.Struct, frozen=True):
    """The source does not give this version. `reason` is the status of its answer, such as `HTTP 404`."""

    reason: str = "HTTP 404"


class Failed(msgspec.Struct, frozen=True):
    """The version could not be fetched now; a later attempt may succeed. `reason` holds no personal data."""

    reason: str


Element = Trekkpaalegg | Rejected
Fetched = Trekkpaalegg | Rejected | Gone | Failed


class Origin(enum.Enum):
    """What led to an event: header `ce_origin`."""

    POLL = "poll"
    GAPFILL = "gapfill"
    BACKFILL = "backfill"
    RECONCILE = "reconcile"
    NOTIFICATION = "notification"
    RELEASE = "release"
    REPAIR = "repair"


class Publication(msgspec.Struct, frozen=True, gc=False):
    """One event to publish.

    `late`: an older version that was not available when it was due. `correction`: the number of this correction of the
    version, from 1, None for the version itself. `current`: the newest version of its order, which is also written to
    `…-gjeldende`.
    """

    trekkpaalegg: Trekkpaalegg
    origin: Origin
    late: bool = False
    correction: int | None = None
    current: bool = True
