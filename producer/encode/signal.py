"""The value of a record in `…-signals`: wake-ups, operator requests, and what lanes tell each other, as JSON. Pure.

It is JSON and not Avro because, during a rolling upgrade, an older worker reads what a newer program wrote without
having its schema, and because people can write a signal with any Kafka client. `schemas/signal.schema.json` describes
it.
"""

from __future__ import annotations

import re

import msgspec

from producer.domain.requests import KINDS, RELEASE, REPAIR, SET, Answer, OperatorRequest, Show, WakeUp

VERSION = 1
VALUE_BYTES_MAX = 4096
_ID_CHARACTERS_MAX = 200
EVERYBODY = "*"
"""The key of a signal to a lane that concerns no single trekkpliktig."""

_WAKE_UP = "wakeup"
_ANSWER = "answer"
_SHOW = "show"
_KINDS_KNOWN = KINDS | {REPAIR, _WAKE_UP, _ANSWER, _SHOW}
_INTEGER_MAX = 2**63 - 1
_RECORD = re.compile(r"[0-9]{1,9}/[0-9]{1,18}", re.ASCII)
_TREKKPLIKTIG = re.compile(r"[0-9]{9}", re.ASCII)


class SignalDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """The value of a signal. Unknown fields are ignored; a higher `v`, or another `kind`, waits for who understands it.

    `id` is the request's, or the notification's. `asked_at` is in microseconds since 1970. `position` goes with `set`,
    `record` (partition/offset in the quarantine) and `correction` with `release`. `lane`, `published` and `quarantined`
    go with `answer`; `since`, in microseconds since 1970, goes with `show`.
    """

    v: int
    kind: str
    id: str = ""
    asked_at: int = 0
    position: int | None = None
    record: str | None = None
    correction: bool = False
    lane: int | None = None
    published: int = 0
    quarantined: int = 0
    since: int | None = None


_decoder = msgspec.json.Decoder(SignalDocument)


class _Outline(msgspec.Struct):
    """What every version of the form has."""

    v: int
    kind: str


_outline_decoder = msgspec.json.Decoder(_Outline)


class UnknownSignalError(Exception):
    """The value is a signal of a newer program: of a kind or version that is not known here."""


class InvalidSignalError(Exception):
    """The record cannot be understood. The message says why without quoting the record, which may hold anything."""


def encode_wake_up(notification: str | None = None) -> bytes | None:
    """The value of a wake-up: none if no notification led to it."""
    if notification is None:
        return None
    return msgspec.json.encode(SignalDocument(VERSION, _WAKE_UP, notification[:_ID_CHARACTERS_MAX]))


def encode_request(request: OperatorRequest) -> bytes:
    """The value of an operator request; its progress is not part of a signal."""
    return msgspec.json.encode(
        SignalDocument(
            VERSION, request.kind, request.id, request.asked_at, request.position, request.record, request.correction
        )
    )


def encode_answer(answer: Answer) -> bytes:
    """The value of a home's answer to the lane of the trekkpliktig that the request is for."""
    return msgspec.json.encode(
        SignalDocument(
            VERSION,
            _ANSWER,
            answer.request,
            lane=answer.lane,
            published=answer.published,
            quarantined=answer.quarantined,
        )
    )


def encode_show(show: Show) -> bytes:
    """The value of a signal to every lane, with the key `EVERYBODY`."""
    return msgspec.json.encode(SignalDocument(VERSION, _SHOW, since=show.since))


def decode_signal(trekkpliktig: str, value: bytes | None) -> WakeUp | OperatorRequest | Answer | Show:
    """The inverse of all. Raises `InvalidSignalError`, and `UnknownSignalError` for what a newer program may know.

    The key `trekkpliktig` is `EVERYBODY` for `Show` and for the request to repair, and for nothing else.
    """
    if trekkpliktig != EVERYBODY and not _TREKKPLIKTIG.fullmatch(trekkpliktig):
        raise InvalidSignalError("the key is no organisation number of 9 digits")
    document = _document_of(value)
    if (trekkpliktig == EVERYBODY) != (document.kind in {_SHOW, REPAIR}):
        raise InvalidSignalError(f"the key {EVERYBODY} goes with {_SHOW} and {REPAIR}, and with nothing else")
    if document.kind == _SHOW:
        return _show_of(document)
    if document.kind == _WAKE_UP:
        return WakeUp(document.id[:_ID_CHARACTERS_MAX] or None)
    if not 0 < len(document.id) <= _ID_CHARACTERS_MAX:
        raise InvalidSignalError(f"a request needs an id of 1 to {_ID_CHARACTERS_MAX} characters")
    return _answer_of(document) if document.kind == _ANSWER else _request_of(document)


def _document_of(value: bytes | None) -> SignalDocument:
    if not value:
        return SignalDocument(VERSION, _WAKE_UP)
    if len(value) > VALUE_BYTES_MAX:
        raise InvalidSignalError(f"the value has more than {VALUE_BYTES_MAX} bytes")
    try:
        outline = _outline_decoder.decode(value)
        if outline.v > VERSION or (outline.v == VERSION and outline.kind not in _KINDS_KNOWN):
            raise UnknownSignalError(f"the value is of a kind that is not known here, in version {outline.v}")
        document = _decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidSignalError("the value is no JSON document of a signal") from error
    if document.v != VERSION:
        raise InvalidSignalError(f"the value is of version {document.v}, not {VERSION}")
    return document


def _show_of(document: SignalDocument) -> Show:
    if document.since is None or not 0 <= document.since <= _INTEGER_MAX:
        raise InvalidSignalError("show needs since, a time in microseconds")
    return Show(document.since)


def _answer_of(document: SignalDocument) -> Answer:
    lane = -1 if document.lane is None else document.lane
    if not all(0 <= number <= _INTEGER_MAX for number in (lane, document.published, document.quarantined)):
        raise InvalidSignalError("an answer needs its lane, and figures of 0 or more")
    return Answer(document.id, lane, document.published, document.quarantined)


def _request_of(document: SignalDocument) -> OperatorRequest:
    if (document.position is not None) != (document.kind == SET) or not 0 <= (document.position or 0) <= _INTEGER_MAX:
        raise InvalidSignalError("a position, of 0 or more, goes with set and with nothing else")
    if not 0 <= document.asked_at <= _INTEGER_MAX:
        raise InvalidSignalError("asked_at is no time in microseconds")
    if (document.record is not None) != (document.kind == RELEASE) or not _RECORD.fullmatch(document.record or "0/0"):
        raise InvalidSignalError("a record, as partition/offset, goes with release and with nothing else")
    if document.correction and document.kind != RELEASE:
        raise InvalidSignalError("correction goes with release and with nothing else")
    return OperatorRequest(
        document.id,
        document.kind,
        document.asked_at,
        document.position,
        record=document.record,
        correction=document.correction,
    )
