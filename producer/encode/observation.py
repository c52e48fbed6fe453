"""An observation as a Kafka record of `…-observations`: value and headers, and back. Pure.

The value is the element as the source sent it. All the rest is JSON in one header, so that a home understands what a
newer program wrote, and so that an element need not be parsed to be handed over. Neither header nor key holds a
national id.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from producer.domain.observation import Known, Observation, Question
from producer.domain.trekkpaalegg import Origin, Rejected, RejectionReason, Trekkpaalegg
from trekkpaalegg.errors import FatalError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from producer.domain.trekkpaalegg import Element

HEADER = "observation"
VERSION = 1
RAW_BYTES_MAX = 900_000
"""With key and header below what a topic and librdkafka take by default (1 MB)."""


class _Rejection(msgspec.Struct, frozen=True, omit_defaults=True):
    reason: RejectionReason
    field_path: str
    detail: str
    raw_hash: str
    trekkid: str | None = None
    trekkversjon: int | None = None
    sekvensnummer: int | None = None


class _Document(msgspec.Struct, frozen=True, omit_defaults=True):
    """The header. Unknown fields are ignored; a higher `v` is not understood. `question` is the id of a request."""

    v: int
    trekkpliktig: str = msgspec.field(name="for")
    origin: Origin | None = None
    requests: tuple[str, ...] = ()
    version: int | None = None
    rejected: _Rejection | None = None
    question: str | None = None
    known: bool = False


_UNKNOWN = b"#"
"""Begins the key of an order whose trekkid is unknown. Its records have the hash alone as their key."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Document).decode
_decode_keys = msgspec.json.Decoder(list[str]).decode


def record_key(observation: Observation) -> bytes:
    """The key of the record, by which Kafka finds the partition of the order's home."""
    return observation.key.removeprefix(_UNKNOWN)


def encode_observation(observation: Observation) -> tuple[bytes | None, dict[str, bytes]]:
    """Value and headers.

    An order version whose raw bytes do not fit is replaced by its number, as `Observation.version`; the raw bytes of a
    rejected element are cut off at `RAW_BYTES_MAX`.
    """
    element, version = observation.element, observation.version
    raw: bytes | None = None
    rejection = None
    if isinstance(element, Rejected):
        raw, rejection = element.raw[:RAW_BYTES_MAX], _rejection_of(element)
    elif element is not None:
        if 0 < len(element.raw) <= RAW_BYTES_MAX:
            raw = element.raw
        else:
            version = element.trekkversjon
    if version is None and rejection is None:
        return raw, {HEADER: _usual_header(observation.trekkpliktig, observation.origin, observation.requests)}
    return raw, _headers(
        _Document(VERSION, observation.trekkpliktig, observation.origin, observation.requests, version, rejection)
    )


def encode_known(known: Known) -> tuple[bytes, dict[str, bytes]]:
    """Value and headers; the key does not matter. The value is a JSON list of the orders' keys."""
    value = _encode([key.decode() for key in known.keys])
    return value, _headers(_Document(VERSION, known.trekkpliktig, known=True))


def encode_question(question: Question) -> tuple[None, dict[str, bytes]]:
    """Value and headers; the key does not matter."""
    return None, _headers(_Document(VERSION, question.trekkpliktig, question=question.request))


def decode(
    key: bytes, value: bytes | None, headers: Mapping[str, bytes], read_element: Callable[[bytes, str], Element]
) -> Observation | Known | Question:
    """The inverse of all. `read_element` parses raw bytes that were read for a trekkpliktig.

    Raises `FatalError` for what cannot be understood, and for an order version under the key of another order, which
    another home may decide on: nothing is skipped, nor published by two homes.
    """
    try:
        document = _document_of(headers[HEADER])
    except (KeyError, msgspec.MsgspecError, UnicodeDecodeError):
        raise _not_understood(f"it has no header {HEADER} that can be read") from None
    if document.v != VERSION:
        raise _not_understood(f"it is of version {document.v}, not {VERSION}")
    if document.question is not None:
        return Question(document.trekkpliktig, document.question)
    if document.known:
        return Known(document.trekkpliktig, _keys_of(value))
    if document.origin is None:
        raise _not_understood("its header lacks the origin")
    if document.rejected is not None and document.rejected.trekkid is None:
        key = _UNKNOWN + key
    element = _element_of(document, value, read_element)
    if isinstance(element, Trekkpaalegg) and element.trekkid.encode() != key:
        raise _not_understood("its key is not the trekkid of its value")
    return Observation(key, document.trekkpliktig, document.origin, element, document.version, document.requests)


def _keys_of(value: bytes | None) -> tuple[bytes, ...]:
    try:
        return tuple([each.encode() for each in _decode_keys(value or b"")])
    except (msgspec.MsgspecError, UnicodeError):
        raise _not_understood("its value is no list of keys") from None


@lru_cache(maxsize=4096)
def _usual_header(trekkpliktig: str, origin: Origin, requests: tuple[str, ...]) -> bytes:
    """All observations of a reading have the same, but for what is special."""
    return _encode(_Document(VERSION, trekkpliktig, origin, requests))


@lru_cache(maxsize=4096)
def _document_of(header: bytes) -> _Document:
    return _decode(header)


def _headers(document: _Document) -> dict[str, bytes]:
    return {HEADER: _encode(document)}


def _rejection_of(rejected: Rejected) -> _Rejection:
    return _Rejection(
        rejected.reason,
        rejected.field_path,
        rejected.detail,
        rejected.raw_hash.hex(),
        rejected.trekkid,
        rejected.trekkversjon,
        rejected.sekvensnummer,
    )


def _element_of(
    document: _Document, value: bytes | None, read_element: Callable[[bytes, str], Element]
) -> Element | None:
    rejection = document.rejected
    if rejection is None:
        return None if value is None else read_element(value, document.trekkpliktig)
    try:
        raw_hash = bytes.fromhex(rejection.raw_hash)
    except ValueError:
        raise _not_understood("the hash in its header is not hexadecimal") from None
    return Rejected(
        document.trekkpliktig,
        value or b"",
        raw_hash,
        rejection.reason,
        rejection.field_path,
        rejection.detail,
        rejection.trekkid,
        rejection.trekkversjon,
        rejection.sekvensnummer,
    )


def _not_understood(why: str) -> FatalError:
    return FatalError(
        f"a record of the observations topic cannot be understood: {why}; was it written by a newer version of this "
        "program, or is the topic another application's?"
    )
