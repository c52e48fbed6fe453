"""The value of a record in `…-signals`: a wake-up or an operator request, as JSON. Pure.

It is JSON and not Avro because, during a rolling upgrade, an older worker reads what a newer program wrote without
having its schema, and because people can write a signal with any Kafka client. `schemas/signal.schema.json` describes
it.
"""

from __future__ import annotations

import re

import msgspec

from producer.domain.requests import KINDS, RELEASE, SET, OperatorRequest, WakeUp

VERSION = 1
VALUE_BYTES_MAX = 4096
_ID_CHARACTERS_MAX = 200
_WAKE_UP = "wakeup"
_RECORD = re.compile(r"[0-9]{1,9}/[0-9]{1,18}", re.ASCII)
_TREKKPLIKTIG = re.compile(r"[0-9]{9}", re.ASCII)


class SignalDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """The value of a signal. Unknown fields are ignored; a higher `v` is not understood.

    `id` is the request's, or the notification's. `asked_at` is in microseconds since 1970. `position` goes with `set`,
    `record` (partition/offset in the quarantine) and `correction` with `release`.
    """

    v: int
    kind: str
    id: str = ""
    asked_at: int = 0
    position: int | None = None
    record: str | None = None
    correction: bool = False


_decoder = msgspec.json.Decoder(SignalDocument)


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


def decode_signal(trekkpliktig: str, value: bytes | None) -> WakeUp | OperatorRequest:
    """The inverse of both. Raises `InvalidSignalError`."""
    if not _TREKKPLIKTIG.fullmatch(trekkpliktig):
        raise InvalidSignalError("the key is no organisation number of 9 digits")
    if not value:
        return WakeUp()
    if len(value) > VALUE_BYTES_MAX:
        raise InvalidSignalError(f"the value has more than {VALUE_BYTES_MAX} bytes")
    try:
        document = _decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidSignalError("the value is no JSON document of a signal") from error
    if document.v != VERSION:
        raise InvalidSignalError(f"the value is of version {document.v}, not {VERSION}")
    if document.kind == _WAKE_UP:
        return WakeUp(document.id[:_ID_CHARACTERS_MAX] or None)
    return _request_of(document)


def _request_of(document: SignalDocument) -> OperatorRequest:
    if document.kind not in KINDS:
        raise InvalidSignalError("the value asks for something that is not known here")
    if not 0 < len(document.id) <= _ID_CHARACTERS_MAX:
        raise InvalidSignalError(f"a request needs an id of 1 to {_ID_CHARACTERS_MAX} characters")
    if (document.position is not None) != (document.kind == SET) or not 0 <= (document.position or 0) < 2**63:
        raise InvalidSignalError("a position, of 0 or more, goes with set and with nothing else")
    if not 0 <= document.asked_at < 2**63:
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
