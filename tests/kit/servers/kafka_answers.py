"""Answers that a broker gives at moments that no test can wait for, as bytes of Kafka's protocol.

One without any broker, as the last of a cluster gives when it shuts down; one to a request to write markers that says
that all are written, though none is. Source of the layouts: Kafka's protocol guide, of those versions that Kafka and
today's clients use.
"""

from __future__ import annotations

import struct

METADATA = 3
END_TXN = 26
WRITE_TXN_MARKERS = 27
"""Api keys. With an END_TXN a client ends a transaction; with a WRITE_TXN_MARKERS its coordinator has it marked."""

METADATA_VERSION_MIN = 9
MARKERS_VERSIONS = (1, 2)
_WITH_TRANSACTION_VERSION = 2
SIZE = struct.Struct(">i")
REQUEST = struct.Struct(">hhi")
"""How a request begins behind its size: api key, version, correlation."""

CORRELATION = struct.Struct(">i")
_LENGTH = struct.Struct(">h")
_THROTTLE_BYTES = _NODE_BYTES = _PORT_BYTES = _PARTITION_BYTES = _COORDINATOR_EPOCH_BYTES = 4
_PRODUCER_ID_BYTES = 8
_EPOCH_BYTES = 2
_RESULT_BYTES = _TRANSACTION_VERSION_BYTES = 1
_NO_ERROR = b"\x00\x00"
_NO_TAGS = b"\x00"
_NONE = b"\x01"


def without_brokers(frame: bytes, version: int) -> bytes:
    """An answer about the cluster, size in front included, and the same with no broker in it.

    Raises `ValueError` for a version whose layout is another one.
    """
    if version < METADATA_VERSION_MIN:
        raise ValueError(f"version {version} of the Metadata response has another layout")
    reading = _Reading(frame, SIZE.size + CORRELATION.size)
    reading.take_no_tags()
    reading.take(_THROTTLE_BYTES)
    begin = reading.at
    brokers, _ = reading.take_count()
    for _ in range(brokers):
        reading.take(_NODE_BYTES)
        reading.take_text()
        reading.take(_PORT_BYTES)
        reading.take_text()
        reading.take_no_tags()
    return _framed(frame[SIZE.size : begin] + _NONE + frame[reading.at :])


def all_marked(frame: bytes) -> bytes:
    """A request to write markers, size in front included, and the answer that each is written.

    Raises `ValueError` for a version whose layout is another one.
    """
    _, version, correlation = REQUEST.unpack_from(frame, SIZE.size)
    if version not in MARKERS_VERSIONS:
        raise ValueError(f"version {version} of the WriteTxnMarkers request has another layout")
    reading = _Reading(frame, SIZE.size + REQUEST.size)
    (client_id_bytes,) = _LENGTH.unpack(reading.take(_LENGTH.size))
    reading.take(max(0, client_id_bytes))
    reading.take_no_tags()
    transactions, field = reading.take_count()
    answer = CORRELATION.pack(correlation) + _NO_TAGS + field
    for _ in range(transactions):
        answer += reading.take(_PRODUCER_ID_BYTES)
        reading.take(_EPOCH_BYTES + _RESULT_BYTES)
        topics, field = reading.take_count()
        answer += field
        for _ in range(topics):
            answer += reading.take_text()
            partitions, field = reading.take_count()
            answer += field
            for _ in range(partitions):
                answer += reading.take(_PARTITION_BYTES) + _NO_ERROR + _NO_TAGS
            reading.take_no_tags()
            answer += _NO_TAGS
        reading.take(_COORDINATOR_EPOCH_BYTES)
        if version >= _WITH_TRANSACTION_VERSION:
            reading.take(_TRANSACTION_VERSION_BYTES)
        reading.take_no_tags()
        answer += _NO_TAGS
    return _framed(answer + _NO_TAGS)


class _Reading:
    """Where in the frame the next field begins; what takes one gives its bytes."""

    def __init__(self, frame: bytes, at: int) -> None:
        self.at = at
        self._frame = frame

    def take(self, count: int) -> bytes:
        begin, self.at = self.at, self.at + count
        return self._frame[begin : self.at]

    def take_count(self) -> tuple[int, bytes]:
        """How many items a list, or bytes a text, has; none and empty alike. With it the bytes of that field."""
        number, field = self._take_number()
        return max(0, number - 1), field

    def take_text(self) -> bytes:
        count, field = self.take_count()
        return field + self.take(count)

    def take_no_tags(self) -> None:
        if self._take_number()[0]:
            raise ValueError("the bytes have tagged fields, which are not known here")

    def _take_number(self) -> tuple[int, bytes]:
        """An unsigned number of variable length, the lowest seven bits first."""
        begin, number, shift = self.at, 0, 0
        while True:
            (byte,) = self.take(1)
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number, self._frame[begin : self.at]
            shift += 7


def _framed(rest: bytes) -> bytes:
    return SIZE.pack(len(rest)) + rest
