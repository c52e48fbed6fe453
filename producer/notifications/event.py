"""Altinn events: which of them is a notification about a trekkpliktig that we serve. No content is trusted.

Anyone who knows the receiver's URL can send anything, so an event is only a hint: at worst it costs one reading. The
only content that is repeated elsewhere is the organisation number of a trekkpliktig that we serve, and an id that
cannot contain a national id: `subject` may name a person.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import msgspec
from cloudevents.core.bindings.http import HTTPMessage, from_binary
from cloudevents.core.exceptions import BaseCloudEventException
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

if TYPE_CHECKING:
    from collections.abc import Container, Mapping
    from datetime import datetime


RECENT_MAX = 50_000


class RecentEvents:
    """The ids of the last events. One that has dropped out counts as new again, which costs a reading and no more.

    Not safe for several threads.
    """

    def __init__(self, recent_max: int = RECENT_MAX) -> None:
        self._recent_max = recent_max
        self._ids: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def is_new(self, event_id: str) -> bool:
        """Whether this id is not among the last ones that were added."""
        return event_id not in self._ids

    def add(self, event_id: str) -> None:
        """Add an event whose wake-up is stored, so that repetitions of it are dropped. Call it no earlier."""
        self._ids.pop(event_id, None)
        self._ids[event_id] = None
        if len(self._ids) > self._recent_max:
            del self._ids[next(iter(self._ids))]


RESOURCE: Final = "urn:altinn:resource:ske-informasjon-om-trekkpaalegg"
ORGANISATION: Final = "urn:altinn:organization:identifier-no:"
EVENT_BYTES_MAX: Final = 64 * 1024
"""A thin event has about five hundred bytes."""

_VALIDATION: Final = "platform.events.validatesubscription"
_ECHO: Final = "dialogporten.dialog.seen.v1"
"""Somebody, perhaps we ourselves, has read the dialog: that is nothing new."""
_KNOWN: Final = re.compile(
    r"dialogporten\.dialog\.(created|updated|deleted|restored|transmission\.created|activity\.[a-z.-]{1,60})\.v\d"
)
_BINARY: Final = "ce-specversion"
_STRUCTURED: Final = re.compile(r"\s*application/(cloudevents\+)?json\s*(;.*)?", re.IGNORECASE)
_ORGANISATION_NUMBER: Final = re.compile(r"(?:urn:altinn:organization:identifier-no:|/organisation/)([0-9]{9})")
_ATTRIBUTES: Final = frozenset(
    {"id", "source", "type", "specversion", "time", "subject", "alternativesubject", "resource"}
)
_REQUIRED: Final = frozenset({"id", "source", "type", "specversion"})
_UNREADABLE: Final = (BaseCloudEventException, ValueError, TypeError, AttributeError, LookupError, RecursionError)


class Notification(msgspec.Struct, frozen=True):
    """Something may have changed for this trekkpliktig, which we serve.

    `is_known_type` is False for a type that we do not know: it still leads to a wake-up, and is counted. `happened_at`
    is the event's own time, in microseconds since 1970.
    """

    trekkpliktig: str
    event_id: str
    is_known_type: bool = True
    happened_at: int | None = None

    @property
    def outcome(self) -> str:
        """Its name in the metrics."""
        return "wake_up" if self.is_known_type else "unknown_type"


class Validation(msgspec.Struct, frozen=True):
    """Altinn checks that the URL responds; any 2xx will do."""

    event_id: str

    @property
    def outcome(self) -> str:
        """Its name in the metrics."""
        return "validation"


class Dropped(msgspec.Struct, frozen=True):
    """It leads to no wake-up. `outcome`: echo, not_ours, other_resource, malformed or oversized."""

    outcome: str
    event_id: str = ""
    happened_at: int | None = None


Incoming = Notification | Validation | Dropped


def read_pushed(headers: Mapping[str, str], body: bytes, served: Container[str]) -> Incoming:
    """What a call to the receiver means; `served` are the trekkpliktige that we serve. Header names in any case.

    It reads the structured mode of CloudEvents 1.0 (the event is the body; Altinn sends it as `application/json`) and
    the binary mode (attributes in headers). It never raises: what cannot be read is `malformed`, as a repetition would
    not help.
    """
    if len(body) > EVENT_BYTES_MAX:
        return Dropped("oversized")
    lowered = {name.lower(): value for name, value in headers.items()}
    try:
        if _BINARY in lowered:
            attributes = {name: value for name, value in lowered.items() if name.startswith("ce-")}
            # Data is not used, and the library would try to parse it.
            event = from_binary(HTTPMessage(attributes, b""), JSONFormat(), _Hint)
        elif _STRUCTURED.fullmatch(lowered.get("content-type", "")):
            event = JSONFormat().read(_Hint, body)
        else:
            return Dropped("malformed")
    except _UNREADABLE:
        return Dropped("malformed")
    return _meaning(event.get_attributes(), served)


def read_pulled(element: bytes, served: Container[str]) -> tuple[Incoming, str | None]:
    """What an event of a polled page means, and its unchanged id, after which polling continues. Never raises."""
    try:
        attributes = JSONFormat().read(_Hint, element).get_attributes()
    except _UNREADABLE:
        return Dropped("malformed"), None
    return _meaning(attributes, served), attributes["id"]


class _Hint(CloudEvent):
    """An event reduced to the attributes that we use, so that a new one with a strange name does no harm.

    The library invents an id, a version and a time where they are missing. Here the first two are required, and an
    invented time is removed again.
    """

    def __init__(self, attributes: dict[str, Any], _: object = None) -> None:
        kept = {name: value for name, value in attributes.items() if name in _ATTRIBUTES and value is not None}
        if not kept.keys() >= _REQUIRED:
            raise ValueError("a required attribute is missing")
        has_time = "time" in kept
        super().__init__(kept, None)
        if not has_time:
            del kept["time"]


def _meaning(attributes: Mapping[str, Any], served: Container[str]) -> Incoming:
    event_id, kind = _shown_id(attributes["id"]), attributes["type"]
    happened_at = _microseconds(attributes.get("time"))
    if kind == _VALIDATION:
        return Validation(event_id)
    trekkpliktig = _trekkpliktig(attributes)
    if trekkpliktig is None or trekkpliktig not in served:
        return Dropped("not_ours", event_id, happened_at)
    if attributes.get("resource", RESOURCE) != RESOURCE:
        return Dropped("other_resource", event_id, happened_at)
    if kind == _ECHO:
        return Dropped("echo", event_id, happened_at)
    return Notification(trekkpliktig, event_id, bool(_KNOWN.fullmatch(kind)), happened_at)


def _trekkpliktig(attributes: Mapping[str, Any]) -> str | None:
    for name in ("subject", "alternativesubject"):
        found = _ORGANISATION_NUMBER.fullmatch(str(attributes.get(name, "")))
        if found:
            return found[1]
    return None


def _shown_id(text: str) -> str:
    """The id if it is a UUID, as Altinn's are; else a hash of it, as it may be of any length and content."""
    try:
        return str(UUID(text))
    except ValueError:
        return f"hash-{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:32]}"


def _microseconds(moment: datetime | None) -> int | None:
    try:
        return None if moment is None else int(moment.timestamp() * 1_000_000)
    except (OverflowError, ValueError):
        return None
