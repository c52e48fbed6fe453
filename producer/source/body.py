"""Body of a list answer in; the JSON text of each element, or a `RetryableError` that tells no content, out. Pure."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

import msgspec

from producer.errors import RetryableError
from producer.source.objects import NOT_JSON

if TYPE_CHECKING:
    from collections.abc import Iterator

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_MEDIA_TYPE: Final = re.compile(r"[a-z]{1,20}/[a-z0-9.+-]{1,60}")
_BEGINNINGS: Final = {b"[": "a JSON array", b"{": "a JSON object", b"<": "markup", b'"': "a JSON text"}
_WHITE_SPACE: Final = " \t\r\n"

_decode_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode
_scan_one = json.JSONDecoder(strict=False, parse_int=str, parse_float=str, parse_constant=str).raw_decode


def split_elements(body: bytes, content_type: str) -> list[bytes]:
    """The elements of a JSON array, each as it was sent; none for an empty body.

    Raises `RetryableError` if the body is no JSON array or is cut off.
    """
    body = body.removeprefix(_BYTE_ORDER_MARK)
    if not body or body.isspace():
        return []
    try:
        return list(map(bytes, _decode_elements(body)))
    except msgspec.ValidationError:
        raise RetryableError(f"answer is no JSON array: {describe_body(body, content_type)}") from None
    except NOT_JSON:
        pass
    try:
        return list(_split_loosely(body))
    except (ValueError, RecursionError):
        raise RetryableError(f"answer is no JSON, or is cut off: {describe_body(body, content_type)}") from None


def describe_body(body: bytes, content_type: str) -> str:
    """What came, told without any of its content: media type, size, and what the first byte says."""
    found = _MEDIA_TYPE.match(content_type.lower())
    beginning = _BEGINNINGS.get(body.lstrip()[:1], "something else") if body.strip() else "nothing"
    return f"{found[0] if found else 'no media type'}, {len(body)} bytes, begins as {beginning}"


def _split_loosely(body: bytes) -> Iterator[bytes]:
    """Split where one element holds what JSON does not allow (half a surrogate pair, NaN), so that the others survive.

    As Latin-1 every byte is one character, so places in the text are places in the body, whatever the bytes mean.
    Raises ValueError or RecursionError.
    """
    text = body.decode("latin-1")
    place = _expect(text, 0, "[") + 1
    while True:
        place = _skip_white_space(text, place)
        _, end = _scan_one(text, place)
        yield body[place:end]
        place = _skip_white_space(text, end)
        if text[place : place + 1] == "]":
            break
        place = _expect(text, place, ",") + 1
    if _skip_white_space(text, place + 1) != len(text):
        raise ValueError("text after the array")


def _expect(text: str, place: int, character: str) -> int:
    place = _skip_white_space(text, place)
    if text[place : place + 1] != character:
        raise ValueError(f"no {character} where one must be")
    return place


def _skip_white_space(text: str, place: int) -> int:
    while text[place : place + 1] and text[place] in _WHITE_SPACE:
        place += 1
    return place
