"""JSON text of an object in; its fields, each as JSON text, out, or a `FieldFaultError`. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from producer.domain.trekkpaalegg import RejectionReason
from producer.source.fields import FieldFaultError

Fields = dict[str, msgspec.Raw]
NULL: Final = b"null"
NOT_JSON: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises on text that is not the JSON that was asked for."""

_decode_fields = msgspec.json.Decoder(Fields).decode
decode_text = msgspec.json.Decoder(str).decode


def read_object(raw: bytes) -> Fields:
    """The fields of an element; the last one where a name stands twice."""
    try:
        return _decode_fields(raw)
    except msgspec.ValidationError:
        raise FieldFaultError(RejectionReason.NOT_AN_OBJECT, "Not a JSON object.") from None
    except NOT_JSON:
        raise FieldFaultError(RejectionReason.INVALID_FIELD, "Holds text that is not well-formed JSON.") from None


def object_at(raw: bytes, path: str) -> Fields:
    """The fields of an object inside an element, at `path`."""
    try:
        return _decode_fields(raw)
    except NOT_JSON:
        raise FieldFaultError(RejectionReason.INVALID_FIELD, "Not an object.", path) from None


def is_given(fields: Fields, name: str) -> bool:
    """Whether the field is there and is not null."""
    return name in fields and bytes(fields[name]) != NULL


def present(fields: Fields, name: str, prefix: str = "") -> bytes:
    """The JSON text of a mandatory field; `prefix` is the path of the object that it stands in."""
    if not is_given(fields, name):
        raise FieldFaultError(RejectionReason.MISSING_FIELD, "Missing or null.", f"{prefix}{name}")
    return bytes(fields[name])


def text_at(fields: Fields, name: str, prefix: str = "") -> str:
    """The value of a mandatory field that must be a text."""
    try:
        return decode_text(present(fields, name, prefix))
    except NOT_JSON:
        raise FieldFaultError(RejectionReason.INVALID_FIELD, "Not a text.", f"{prefix}{name}") from None
