"""An answer of a Kafka broker about its cluster in, the same answer without any broker out.

So answers one that shuts down as the last of its cluster, for a moment that no test can wait for. Source of the
layout: Kafka's protocol guide, Metadata response; of version 9 and later, which today's clients ask for.
"""

from __future__ import annotations

import struct

METADATA = 3
"""The api key of the request."""

VERSION_MIN = 9
_SIZE = struct.Struct(">i")
_CORRELATION_BYTES = THROTTLE_BYTES = NODE_BYTES = PORT_BYTES = 4
_NONE = b"\x01"


def without_brokers(frame: bytes, version: int) -> bytes:
    """The frame, size in front included. Raises `ValueError` for a version whose layout is another one."""
    if version < VERSION_MIN:
        raise ValueError(f"version {version} of the Metadata response has another layout")
    _, begin = _number(frame, _SIZE.size + _CORRELATION_BYTES)
    begin += THROTTLE_BYTES
    count, at = _number(frame, begin)
    for _ in range(count - 1):
        at = _behind_text(frame, at + NODE_BYTES)
        at = _behind_text(frame, at + PORT_BYTES)
        tags, at = _number(frame, at)
        if tags:
            raise ValueError("a broker in the Metadata response has tagged fields, which are not known here")
    rest = frame[_SIZE.size : begin] + _NONE + frame[at:]
    return _SIZE.pack(len(rest)) + rest


def _number(frame: bytes, at: int) -> tuple[int, int]:
    """An unsigned number of variable length, and where it ends."""
    value = shift = 0
    while True:
        byte = frame[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the highest bit says that more follows
            return value, at
        shift += 7


def _behind_text(frame: bytes, at: int) -> int:
    """Behind a compact string, which may be none."""
    length, at = _number(frame, at)
    return at + max(0, length - 1)
